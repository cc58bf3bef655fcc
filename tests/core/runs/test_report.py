"""What a run came to, in numbers and in words."""

import json

import pytest

from pave_core.evaluation.gain import Comparison, Gain
from pave_core.evaluation.guard import Reading
from pave_core.evaluation.looks import Change
from pave_core.runs.report import GuardSummary, RunSummary

FILES = {"run_folder": "runs/a", "lora": "loras/a", "curve": "runs/a/curve.png"}
TOTAL = Gain(before=0.25, after=0.75, se=0.0625)


def record(step, mean=0.5, **numbers):
    plain = {"groups": 4, "zero_spread_groups": 0, "flat_groups": {"a": 0}, "unscored": 0, "skipped": False}
    return {"step": step, "reward_mean": mean} | plain | numbers


def summary(history=None, comparison=None, guard=None, held_out_prompts=2):
    history = history or [record(1)]
    return RunSummary.of(
        history,
        steps=len(history),
        train_seconds=61.4,
        held_out_prompts=held_out_prompts,
        comparison=comparison,
        guard=guard,
        files=FILES,
    )


def comparison(total=TOTAL, rewards=None, judge=None, change=None):
    return Comparison(total, rewards or {"a": total}, judge, 12, change)


def said(*arguments, **more):
    """The lines between the first, of steps and time, and the last two, of files."""
    first, *lines, folder, lora = summary(*arguments, **more).text().splitlines()
    assert first.endswith(" in 61 s")
    assert (folder, lora) == ("- run folder: runs/a", "- LoRA: loras/a")
    return lines


def test_the_numbers_of_all_steps_are_added_up():
    history = [
        record(1, 0.25, zero_spread_groups=1, flat_groups={"a": 1, "b": 0}, unscored=3),
        record(2, None, skipped=True, groups=0),
        record(3, 0.75, zero_spread_groups=2, flat_groups={"a": 2, "b": 4}),
    ]
    made = summary(history)
    assert (made.steps, made.training_reward) == (3, (0.25, 0.75))
    assert (made.groups, made.zero_spread_groups) == (8, 3)
    assert made.flat_groups == {"a": 3, "b": 4}
    assert (made.unscored_images, made.skipped_steps) == (3, 1)


def test_records_of_an_older_version_lack_some_numbers():
    old = record(1)
    del old["flat_groups"], old["unscored"]
    made = summary([old, record(2, flat_groups={"a": 1}, unscored=2)])
    assert (made.flat_groups, made.unscored_images) == ({"a": 1}, 2)


def test_summary_json_holds_comparison_numbers_guard_and_files_side_by_side():
    guard = GuardSummary(None, 0, 3, 2, 0.1, 0.2)
    found = json.loads(json.dumps(summary(comparison=comparison(judge=(0.1, 0.2)), guard=guard).to_dict()))
    assert found["reward_before"] == 0.25
    assert found["judge_after"] == 0.2
    assert found["held_out_images"] == 12
    assert found["guard"] == vars(guard)
    assert found["steps"] == 1
    assert found["training_reward"] == [0.5, 0.5]
    assert {name: found[name] for name in FILES} == FILES
    assert "comparison" not in found
    assert summary().to_dict()["guard"] is None


@pytest.mark.parametrize(("now", "told"), [(0.05, True), (0.2, False)])
def test_images_that_changed_much_are_told_beside_the_gain(now, told):
    change = Change({"contrast": (0.21, now, (now - 0.21) / 0.03)}, drift=0.4, variety=0.9)
    gain, *rest = said(comparison=comparison(change=change))
    assert "gain +0.5000" in gain
    assert [line[:64] for line in rest] == told * ["- the images have changed much: contrast 0.21 -> 0.05 (-76%). Lo"]


def test_a_gain_is_told_with_its_error():
    (line,) = said(comparison=comparison())
    assert line == "- reward on 2 held-out prompts, 12 images: 0.2500 -> 0.7500 (gain +0.5000 +- 0.0625)"
    (line,) = said(comparison=comparison(), held_out_prompts=0)
    assert line.startswith("- reward on the training prompts (none are held out), 12 images")


@pytest.mark.parametrize(("se", "noise"), [(0.24, False), (0.25, True), (0.3, True)])
def test_a_gain_of_at_most_two_errors_is_called_noise(se, noise):
    lines = said(comparison=comparison(Gain(0.25, 0.75, se)))
    assert any("within the noise" in line for line in lines) == noise


def test_several_rewards_and_the_judge_have_lines_of_their_own():
    rewards = {"a": TOTAL, "b": Gain(1.0, 0.5, 0.25)}
    _, *lines = said(comparison=comparison(rewards=rewards, judge=(0.1, 0.2)))
    assert lines == [
        "- a alone: 0.2500 -> 0.7500 (+- 0.0625)",
        "- b alone: 1.0000 -> 0.5000 (+- 0.2500)",
        "- judge, never trained on: 0.1000 -> 0.2000",
    ]


def test_without_a_measurement_the_training_images_speak():
    (line,) = said([record(1, 0.25), record(2, None)])
    where = "0.2500 in the first step, not finite in the last (with other prompts)"
    assert line == f"- reward of the training images: {where}"


def test_what_taught_nothing_is_told():
    idle = {"zero_spread_groups": 3, "flat_groups": {"a": 3, "b": 2}, "unscored": 5, "skipped": True}
    _, *lines = said([record(1, **idle), record(2, **idle)])
    assert lines[0] == "- 6 of 8 groups had no spread and taught nothing"
    assert lines[1].startswith("- reward 'a' gave all images of a group the same number in 6 of 8 groups: it hardly")
    assert lines[2] == "- 10 training images were left without a score; the log says why"
    assert lines[3] == "- skipped, because loss or gradient was not finite: 2 steps"
    assert len(lines) == 4


def reading(step, held_out, *alarms):
    return Reading(step, held_out, 0.0, 0.0, {}, alarms, not alarms)


def test_the_guard_is_summed_up_by_its_readings():
    readings = [reading(2, 0.5), reading(4, 0.75), reading(6, 0.25, "it fell", "it drifted")]
    found = GuardSummary.of(readings, stopped="it fell", chosen=4, base=0.125)
    assert found == GuardSummary("it fell", alarms=1, checks=3, chosen=4, base=0.125, held_out=0.75)
    assert GuardSummary.of(readings, stopped=None, chosen=0, base=None).held_out is None


@pytest.mark.parametrize(
    ("guard", "lines"),
    [
        (
            GuardSummary("it fell", 1, 3, 4, 0.125, 0.75),
            [
                "- the guard stopped the run: it fell",
                "- the LoRA is that of step 4, the best of 3 measurements, the guard's reward 0.1250 -> 0.7500",
            ],
        ),
        (
            GuardSummary(None, 2, 5, 4, None, None),
            [
                "- the guard raised 2 alarms, and each time halved the learning rate and went back to the best weights",
                "- the LoRA is that of step 4, the best of 5 measurements",
            ],
        ),
        (
            GuardSummary(None, 0, 1, 0, 0.1, None),
            [
                "- every measured step had an alarm: the LoRA is the untrained one and changes nothing; train more "
                "slowly or loosen the thresholds"
            ],
        ),
    ],
)
def test_the_guard_in_words(guard, lines):
    assert said(guard=guard)[: len(lines)] == lines
