"""Who listens to a run: what each sink is told, and in which order."""

import json
import math
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from _toy import Hears, Negative, ToyTraining, drive, lines, toy_config
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.runs.folder import RunFolder
from pave_core.runs.log import Everyone, LogLines, MetricsFile, Reporter, TensorBoard

HELD_OUT = ("held_out/reward", "held_out/gain", "held_out/gain_se")


@pytest.fixture(scope="module")
def steps():
    """The records of a toy training of four steps."""
    return list(ToyTraining().stream())


def scalars(folder):
    """{name: {step: value}} of a folder's TensorBoard events."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}


def test_metrics_are_logged_and_rewound(steps, tmp_path):
    folder = RunFolder.new(tmp_path, "run", print)
    reporter = Everyone([MetricsFile(folder.metrics), TensorBoard(folder.path)])
    for metrics in steps:
        reporter.step(metrics, 4)
    reporter.close()
    with folder.metrics.open("a") as file:
        file.write('{"step": 5, "torn')
    assert [record["step"] for record in folder.history(2)] == [1, 2]
    kept = folder.metrics.read_text().splitlines()
    assert len(kept) == 2
    assert json.loads(kept[0]) == json.loads(json.dumps(steps[0].to_dict()))
    assert {"step", "loss", "reward_mean", "reward_std", "grad_norm", "seconds"} <= json.loads(kept[0]).keys()
    found = scalars(folder.path)
    assert len(found["reward_mean"]) == 4
    assert found["reward/brightness"] == pytest.approx({m.step: m.reward_mean for m in steps})
    assert found["spread/brightness"] == pytest.approx({m.step: m.reward_std for m in steps})


def test_numbers_that_are_not_finite_are_null_in_the_file_and_absent_from_tensorboard(steps, tmp_path):
    bad = replace(steps[0], loss=math.nan, grad_norm=math.inf)
    reporter = Everyone([MetricsFile(tmp_path / "metrics.jsonl"), TensorBoard(tmp_path)])
    reporter.step(bad, 4)
    reporter.numbers(1, {"held_out/reward": 0.5, "guard/held_out": None})
    reporter.close()
    (record,) = lines(tmp_path / "metrics.jsonl")
    assert (record["loss"], record["grad_norm"]) == (None, None)
    found = scalars(tmp_path)
    assert found["held_out/reward"] == {1: 0.5}
    assert found.keys().isdisjoint({"loss", "grad_norm", "guard/held_out"})


def test_tensorboard_drops_what_a_crash_left_behind_the_checkpoint(steps, tmp_path):
    first, second = TensorBoard(tmp_path), TensorBoard(tmp_path, done=2)
    for metrics in steps:
        first.step(metrics, 4)
    first.close()
    again = replace(steps[2], reward_mean=9.0)  # the run went on from step 2
    second.numbers(2, {"held_out/reward": 0.5})  # measured after the resume, before the first step
    second.step(again, 4)
    second.close()
    found = scalars(tmp_path)["reward_mean"]
    assert found == pytest.approx({1: steps[0].reward_mean, 2: steps[1].reward_mean, 3: 9.0})
    assert scalars(tmp_path)["held_out/reward"] == {2: 0.5}


def test_tensorboard_writes_no_file_before_there_is_something_to_write(tmp_path):
    reporter = TensorBoard(tmp_path)
    reporter.message("hello")
    reporter.close()
    assert list(tmp_path.iterdir()) == []


def test_the_log_has_a_line_a_step_with_what_is_out_of_the_ordinary(steps, caplog):
    plain = replace(steps[1], reward_mean=0.5, reward_std=0.25, loss=-1e-3, grad_norm=2.0, seconds={"a": 1.0, "b": 0.5})
    odd = replace(plain, zero_spread_groups=1, groups=4, unscored=3, skipped=True)
    with caplog.at_level("INFO", "pave"):
        for metrics in (plain, odd):
            LogLines().step(metrics, 40)
    first, second = (record.getMessage() for record in caplog.records)
    line = "Pave-GRPO step 2/40 | reward 0.5000 (spread 0.2500) | loss -1.00e-03 | gradient 2 | 1.50 s"
    assert first == line
    assert second == f"{line} | 1 of 4 groups without spread | 3 images not scored | not finite, skipped"


def test_messages_are_logged_at_their_level(caplog):
    with caplog.at_level("INFO", "pave"):
        LogLines().message("begins")
        LogLines().message("ends", warning=True)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("INFO", "Pave-GRPO begins"), ("WARNING", "Pave-GRPO ends")]


def test_everyone_hears_everything_in_their_order(steps):
    said = []
    reporter = Everyone([Hears(said, "a"), Hears(said, "b")])
    reporter.step(steps[0], 4)
    reporter.numbers(1, {"x": 1.0})
    reporter.message("text", warning=True)
    reporter.close()
    events = [("step", 1, 4), ("numbers", 1, "x"), ("warning", "text"), ("close",)]
    assert said == [(name, *event) for event in events for name in ("a", "b")]


def test_a_listener_hears_only_what_it_asks_for(steps):
    class Bell(Reporter):
        rung = 0

        def step(self, metrics, steps):
            self.rung += 1

    bell = Bell()
    reporter = Everyone([bell])
    reporter.step(steps[0], 4)
    reporter.numbers(1, {"x": 1.0})
    reporter.message("text")
    reporter.close()
    assert bell.rung == 1


def test_a_run_is_heard_in_order(begin):
    hears = Hears()
    run = begin(toy_config(iterations=3), evaluate_every=2, reporters=[hears])
    drive(run)
    run.finish()
    assert hears.events == [
        ("step", 1, 3),
        ("step", 2, 3),
        ("numbers", 2, *HELD_OUT),
        ("step", 3, 3),
        ("numbers", 3, *HELD_OUT),
        ("close",),
    ]


def test_a_guard_is_heard_after_its_step_and_its_alarm_after_its_numbers(begin):
    hears = Hears()
    guard = GuardSettings(GuardConfig(every=1, max_drop=0.0, max_drift=1e-9), Negative())
    run = begin(guard=guard, reporters=[hears])
    drive(run)
    assert run.stopped
    measured = ("guard/held_out", "guard/drift", "guard/saturation", "guard/contrast", "guard/flatness")
    *before, (kind, text) = hears.events
    assert before == [("step", 1, 4), ("numbers", 1, *HELD_OUT), ("numbers", 1, *measured)]
    assert kind == "warning"
    assert text == f"guard, step 1: {run.stopped}; the run ends here"


def test_listeners_of_a_resumed_run_hear_only_of_its_new_steps(begin):
    first = begin(toy_config(iterations=4))
    drive(first, until=2)
    first.stop("cancelled")
    hears = Hears()
    second = begin(toy_config(iterations=4), resume=first.folder.name, reporters=[hears])
    drive(second)
    second.finish()
    assert hears.events == [("step", 3, 4), ("step", 4, 4), ("numbers", 4, *HELD_OUT), ("close",)]
    assert list(scalars(first.folder.path)["loss"]) == [1, 2, 3, 4]


def test_a_listener_that_fails_is_named_once_and_the_others_hear_on(steps, caplog):
    class Broken(Reporter):
        def step(self, metrics, steps):
            raise AttributeError("module 'numpy' has no attribute 'bool8'")

    hears = Hears()
    reporter = Everyone([Broken(), hears])
    with caplog.at_level("WARNING"):
        for metrics in steps:
            reporter.step(metrics, 4)
    assert [said[:2] for said in hears.said] == [("step", n) for n in (1, 2, 3, 4)]
    assert caplog.messages == [
        "Pave-GRPO Broken cannot report (AttributeError: module 'numpy' has no attribute 'bool8'): the run goes on "
        "without it"
    ]


def test_metrics_come_back_whole_when_the_disk_has_room_again(steps, tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.step(steps[0], 4)
    (tmp_path / "metrics.jsonl").rename(tmp_path / "away")
    (tmp_path / "metrics.jsonl").mkdir()
    reporter = Everyone([file])
    reporter.step(steps[1], 4)
    (tmp_path / "metrics.jsonl").rmdir()
    reporter.step(steps[2], 4)
    reporter.step(steps[3], 4)
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
