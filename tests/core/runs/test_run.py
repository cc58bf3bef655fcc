"""A run under way: what it keeps, when, and what comes out of it."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from _toy import (
    PROMPTS,
    SEEDS,
    Brightness,
    Constant,
    Hears,
    Negative,
    Redness,
    ToyTraining,
    Twin,
    drive,
    lines,
    same,
    toy_config,
    weights,
    without_clock,
)
from pave_core.errors import ConfigError, TrainingError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.images import eight_bit
from pave_core.rollout.prompts import PromptSet
from pave_core.runs import keeper
from pave_core.runs import run as module
from pave_core.runs.checkpoint import load_checkpoint, previous


def summary_of(run):
    return json.loads((run.folder.path / "summary.json").read_text())


def contents(folder):
    """{file: its content} of all that does not depend on the clock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "summary.json"}


def test_a_run_leaves_everything_it_promises(begin, places):
    run = begin(judge=Redness(), prompts=PromptSet(PROMPTS[:2], PROMPTS[2:]), evaluate_every=3)
    drive(run)
    outcome = run.finish()
    names = {path.name for path in run.folder.path.iterdir() if "tfevents" not in path.name}
    assert names == {
        "metrics.jsonl",
        "evaluations.json",
        "checkpoint.safetensors",
        "checkpoint.previous.safetensors",
        "summary.json",
        "curve.png",
        "grid.png",
        "in_use.lock",
        "measured",
        "group",
    }
    assert list(run.folder.path.glob("events.out.tfevents*"))
    assert same(load_file(places.lora(run.folder.name)), outcome.lora)
    assert [record["step"] for record in lines(run.folder.metrics)] == [1, 2, 3, 4]
    evaluations = json.loads((run.folder.path / "evaluations.json").read_text())
    assert [each["step"] for each in evaluations] == [0, 3, 4]
    summary = summary_of(run)
    assert [evaluations[0]["reward"], evaluations[-1]["reward"]] == [summary["reward_before"], summary["reward_after"]]
    assert (summary["steps"], summary["held_out_images"], summary["guard"]) == (4, len(SEEDS), None)
    assert summary["lora"] == str(places.lora(run.folder.name))
    assert outcome.summary.to_dict()["reward_se"] == summary["reward_se"]
    assert len(outcome.history) == 4
    assert outcome.curve.ndim == outcome.grid.ndim == 3


def test_what_comes_out_is_what_training_alone_makes(begin):
    """Oracle: the loop by itself. Measuring, logging and saving change nothing of it."""
    plain = ToyTraining()
    records = list(plain.stream())
    run = begin(judge=Redness(), evaluate_every=1, check_reward=True)
    made = drive(run)
    assert without_clock(made) == without_clock(records)
    assert same(run.finish().lora, plain.policy.export())


def test_checkpoints_come_when_they_are_due_and_at_the_end(begin):
    run = begin(toy_config(iterations=5, checkpoint_every=2))
    kept = []
    for step in range(1, 6):
        drive(run, until=step)
        kept.append(load_checkpoint(run.folder.checkpoint).step if run.folder.checkpoint.exists() else None)
    assert kept == [1, 2, 2, 4, 5]  # the first step in any case: after it a run can always be resumed
    assert load_checkpoint(previous(run.folder.checkpoint)).step == 4


def test_checkpoints_are_never_older_than_five_minutes(begin):
    run = begin(toy_config(iterations=9, checkpoint_every=100))
    drive(run, until=2)
    assert load_checkpoint(run.folder.checkpoint).step == 1
    run._kept_at -= 200  # so much time has passed
    drive(run, until=3)
    assert load_checkpoint(run.folder.checkpoint).step == 1
    run._kept_at -= 101
    drive(run, until=4)
    drive(run, until=5)
    assert load_checkpoint(run.folder.checkpoint).step == 4


def test_the_lora_so_far_stands_beside_each_checkpoint(begin, places):
    run = begin()
    drive(run, until=2)
    run.keep()
    path = places.lora(run.folder.name)
    assert run.keeper.lora == path
    assert same(load_file(path), run.policy.export())
    assert run.lora().recipe["step"] == 2
    written = path.stat().st_mtime_ns
    run.keep()
    assert path.stat().st_mtime_ns == written  # nothing new to keep


def test_the_lora_so_far_is_the_guard_s_best(begin, places):
    run = begin(toy_config(iterations=20), guard=GuardSettings(GuardConfig(every=2, max_drop=0.0), Negative()))
    drive(run, until=7)
    assert run.chosen_step == 2
    assert run.measurements.has_images(2)  # for the grid
    assert not run.measurements.has_images(4)
    run.keep()
    best = run.watch.best.adapter
    assert same(load_file(places.lora(run.folder.name)), run.policy.export(best))
    assert not same(run.policy.export(best), run.policy.export())
    assert load_checkpoint(run.folder.checkpoint).step == 7  # what resume goes on from is the newest


def test_a_run_that_stops_before_its_first_step_leaves_no_folder(begin, places, caplog):
    hears = Hears()
    run = begin(reporters=[hears])
    with caplog.at_level("WARNING"):
        run.stop("cancelled")
    assert list(places.runs.iterdir()) == []
    assert not places.loras.exists()
    assert "Pave-GRPO cancelled before its first step: there is nothing to keep" in caplog.text
    assert ("warning", "cancelled before its first step: there is nothing to keep") in hears.said
    assert ("close",) in hears.said


def test_a_picture_of_the_best_image_stands_beside_the_lora(begin, places):
    run = begin()
    drive(run)
    lora = run.finish().lora
    evaluation = run.measurements.evaluations[4]
    best = evaluation.images[evaluation.total.argmax()]
    assert torch.equal(lora.preview, best)
    with Image.open(places.loras / f"{run.folder.name}.png") as picture:
        assert torch.equal(torch.from_numpy(np.array(picture)), torch.from_numpy(eight_bit(best)))


def test_a_picture_that_cannot_be_written_ends_nothing(begin, places, caplog):
    run = begin()
    drive(run)
    (places.loras / f"{run.folder.name}.png").mkdir(parents=True)
    assert run.finish().lora.preview is not None
    assert f"{run.folder.name}.png could not be written" in caplog.text


def test_a_run_that_stops_leaves_curve_and_summary_of_what_was_trained(begin):
    class Ends(Hears):
        def ended(self, text, *, early):
            self.said.append(("ended", text, early))

    hears = Ends()
    run = begin(toy_config(iterations=9), reporters=[hears], evaluate_every=2)
    drive(run, until=3)
    run.stop("cancelled")
    assert Image.open(run.folder.path / "curve.png").size[0] > 100
    summary = summary_of(run)
    assert (summary["steps"], summary["stopped"]) == (3, "cancelled")
    before, after = (run.measurements.evaluations[step].total.mean().item() for step in (0, 2))
    assert (summary["reward_before"], summary["reward_after"]) == pytest.approx((before, after))
    warning, ended, closed = hears.said[-3:]
    assert warning[0] == "warning"
    assert warning[1].startswith("cancelled after step 3: LoRA so far in ")
    assert (ended, closed) == (("ended", warning[1], True), ("close",))
    resumed = begin(toy_config(iterations=4), reporters=[hears], resume=run.folder.name)
    drive(resumed)
    resumed.finish()
    assert summary_of(resumed)["stopped"] is None
    ended = hears.said[-2]
    assert ended[0] == "ended"
    assert ended[1].startswith("finished: 4 steps, gain ")
    assert not ended[2]


def test_what_cannot_be_drawn_of_a_run_that_stops_is_said_and_ends_nothing(begin, monkeypatch, caplog):
    run = begin()
    drive(run, until=1)
    monkeypatch.setattr(type(run), "_summary", lambda self, stopped: 1 / 0)
    run.stop("cancelled")
    assert "the summary could not be made (ZeroDivisionError" in caplog.text
    assert "cancelled after step 1: LoRA so far in" in caplog.messages[-1]


def test_a_run_that_stops_says_where_its_work_is(begin, places, caplog):
    run = begin()
    drive(run, until=1)
    with caplog.at_level("WARNING"):
        run.stop("stopped (OSError)")
    lora, checkpoint = places.lora(run.folder.name), run.folder.checkpoint
    assert f"stopped (OSError) after step 1: LoRA so far in {lora}, checkpoint in {checkpoint}" in caplog.text
    assert "to go on, set resume to 'pave_00001'" in caplog.text
    assert load_checkpoint(checkpoint).step == 1
    assert same(load_file(lora), run.policy.export())


def test_a_run_whose_reward_fails_keeps_the_complete_steps(begin):
    class Breaks(Brightness):
        calls = 0

        def __call__(self, images, prompts):
            self.calls += 1
            if self.calls == 1 + 2 * 2 + 1:  # the base's evaluation, two calls a step, then in the third step
                raise OSError("the reward's server is gone")
            return super().__call__(images, prompts)

    run = begin(reward=Breaks())
    with pytest.raises(OSError, match="server is gone"):
        drive(run)
    run.stop("stopped (OSError)")
    plain = ToyTraining(toy_config(iterations=2))
    list(plain.stream())
    assert load_checkpoint(run.folder.checkpoint).step == 2
    assert same(load_checkpoint(run.folder.checkpoint).adapter, weights(plain.policy))


def test_finishing_twice_is_finishing_once(begin):
    class Counted(Brightness):
        calls = 0

        def __call__(self, images, prompts):
            self.calls += 1
            return super().__call__(images, prompts)

    reward = Counted()
    run = begin(reward=reward, guard=GuardSettings(GuardConfig(every=3, max_drop=0.0), Twin()))
    drive(run)
    first = run.finish()
    calls, history = reward.calls, list(first.history)
    files = contents(run.folder.path)
    second = run.finish()
    assert reward.calls == calls
    assert same(first.lora, second.lora)
    assert first.lora.recipe == second.lora.recipe
    assert second.history == history
    assert torch.equal(first.curve, second.curve)
    assert torch.equal(first.grid, second.grid)
    clock = {"train_seconds": 0.0}
    assert first.summary.to_dict() | clock == second.summary.to_dict() | clock
    assert contents(run.folder.path) == files


def test_a_finished_run_may_go_on_and_be_finished_again(begin):
    """As a graph does that was made longer. Oracle: a run that was as long from the beginning."""
    whole = begin(toy_config(iterations=5), name="whole")
    drive(whole)
    outcome = whole.finish()
    run = begin(toy_config(iterations=3), name="longer")
    drive(run)
    run.finish()
    run.expect(2)
    assert run.config.run.iterations == 5
    drive(run)
    longer = run.finish()
    assert same(longer.lora, outcome.lora)
    assert lines(run.folder.metrics) == lines(whole.folder.metrics)
    assert longer.summary.comparison == outcome.summary.comparison
    assert run.recipe() == whole.recipe()


def test_a_run_that_nodes_score_is_kept_and_drawn_without_measurements(begin, places):
    run = begin(reward=None)
    drive(run, reward=Brightness())
    outcome = run.finish()
    assert outcome.grid is None
    assert outcome.summary.comparison is None
    assert not (run.folder.path / "evaluations.json").exists()
    assert not (run.folder.path / "grid.png").exists()
    assert "grid" not in summary_of(run)
    plain = begin()
    drive(plain)
    assert same(outcome.lora, plain.finish().lora)
    assert same(load_file(places.lora(run.folder.name)), outcome.lora)


def test_a_judge_is_measured_and_not_trained_on(begin):
    class Judge(Negative):
        calls = 0

        def __call__(self, images, prompts):
            self.calls += 1
            return super().__call__(images, prompts)

    judge = Judge()
    judged, unjudged = begin(judge=judge), begin()
    for run in (judged, unjudged):
        drive(run)
    outcome = judged.finish()
    assert judge.calls == 2
    assert outcome.summary.comparison.judge[0] == judged.measurements.before.judge.mean().item()
    assert same(outcome.lora, unjudged.finish().lora)


def test_the_best_weights_of_an_earlier_session_are_measured_again_for_the_grid(begin):
    guard = GuardSettings(GuardConfig(every=2, max_drop=0.0), Negative())
    first = begin(toy_config(iterations=6), guard=guard, evaluate_every=2)
    drive(first, until=3)
    assert first.chosen_step == 2
    known = first.measurements.evaluations[2]
    first.stop("cancelled")
    second = begin(toy_config(iterations=6), guard=guard, resume=first.folder.name)
    drive(second)
    newest = weights(second.policy)
    outcome = second.finish()
    assert second.chosen_step == 2
    again = second.measurements.evaluations[2]
    assert torch.equal(again.images, known.images)
    assert torch.equal(again.total, known.total)
    assert outcome.grid is not None
    assert same(weights(second.policy), newest)


def test_measurements_come_when_they_are_due(begin):
    run = begin(toy_config(iterations=7), evaluate_every=3)
    drive(run)
    assert sorted(run.measurements.evaluations) == [0, 3, 6]
    run.finish()
    assert sorted(run.measurements.evaluations) == [0, 3, 6, 7]


def test_history_and_metrics_file_are_the_same_records(begin):
    run = begin()
    drive(run)
    records = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    assert json.loads(json.dumps(run.history)) == records
    assert not any("preview" in record for record in run.history)


def test_a_watched_constant_may_be_a_judge(begin):
    """A judge need not tell images apart; only a guard's reward must."""
    run = begin(judge=Constant())
    drive(run)
    assert run.finish().summary.comparison.judge == (1.0, 1.0)


def test_finishing_without_a_step_is_refused(begin, places):
    run = begin()
    with pytest.raises(TrainingError, match="no step was made: there is nothing to finish"):
        run.finish()
    run.close()
    assert list(places.runs.iterdir()) == []


def test_an_outcome_does_not_grow_when_the_run_goes_on(begin):
    run = begin(toy_config(iterations=2))
    drive(run)
    outcome = run.finish()
    run.expect(1)
    drive(run)
    assert [record["step"] for record in outcome.history] == [1, 2]


def refuse_writes(monkeypatch, *names, number=errno.ENOSPC):
    """From now on the disk refuses files whose names contain one of `names`: they cannot be moved to their place."""
    move = Path.replace

    def refuse(self, target):
        if any(name in Path(target).name for name in names):
            raise OSError(number, os.strerror(number))
        return move(self, target)

    monkeypatch.setattr(Path, "replace", refuse)


def test_the_lora_is_saved_where_the_checkpoint_does_not_fit(begin, places, monkeypatch, caplog):
    run = begin(toy_config(iterations=3))
    refuse_writes(monkeypatch, "checkpoint")
    with caplog.at_level("WARNING"):
        drive(run, until=2)
        run.stop("cancelled")
    assert same(load_file(places.lora(run.folder.name)), run.policy.export())
    assert not run.folder.checkpoint.exists()
    assert "the checkpoint could not be written to" in caplog.text
    assert "(the disk is full: free some space)" in caplog.text
    lora = places.lora(run.folder.name)
    assert f"cancelled after step 2: LoRA so far in {lora}; there is no checkpoint to go on from" in caplog.text
    assert "memory keeps checkpoint" in caplog.messages[-1]
    assert "resume" not in caplog.messages[-1]


def test_what_no_place_took_is_written_when_the_next_run_begins(begin, places, monkeypatch, caplog):
    """Oracle: the same run on a disk with room."""
    whole = begin(toy_config(iterations=3), name="whole")
    drive(whole)
    whole.finish()
    whole.close()
    run = begin(toy_config(iterations=3))
    refuse_writes(monkeypatch, "")
    with caplog.at_level("WARNING"):
        drive(run, until=2)
        run.stop("cancelled")
    assert "the LoRA could not be written (the disk is full: free some space)" in caplog.messages[-1]
    assert "memory keeps LoRA and checkpoint" in caplog.messages[-1]
    assert not list(places.runs.parent.rglob(f"{run.folder.name}*.safetensors"))
    other = begin(toy_config(iterations=1), name="other")  # still no room
    other.close()
    assert not list(places.runs.parent.rglob(f"{run.folder.name}*.safetensors"))
    monkeypatch.undo()
    with caplog.at_level("WARNING"):
        resumed = begin(toy_config(iterations=3), resume=run.folder.name)
    lora = places.lora(run.folder.name)
    assert f"{run.folder.name!r} could not be written before, and is now: LoRA so far in {lora}" in caplog.text
    assert same(load_file(lora), run.policy.export())
    assert resumed.state.step == 2
    drive(resumed)
    assert same(resumed.finish().lora, load_file(places.lora(whole.folder.name)))


def test_a_finished_run_without_a_place_is_written_when_the_next_one_begins(begin, places, monkeypatch):
    run = begin(toy_config(iterations=2))
    refuse_writes(monkeypatch, "")
    drive(run)
    outcome = run.finish()
    run.close()
    monkeypatch.undo()
    begin(toy_config(iterations=1), name="next").close()
    assert same(load_file(places.lora(run.folder.name)), outcome.lora)
    assert load_checkpoint(run.folder.checkpoint).step == 2


def test_nothing_in_memory_is_written_over_a_later_state(begin, places, monkeypatch, caplog):
    """Another program has gone on meanwhile with the checkpoint that was on disk."""
    run = begin(toy_config(iterations=4, checkpoint_every=1))
    drive(run, until=1)
    refuse_writes(monkeypatch, "safetensors")
    drive(run, until=2)
    run.stop("cancelled")
    monkeypatch.undo()
    waiting = list(keeper._waiting)
    keeper._waiting.clear()  # as in another program
    later = begin(toy_config(iterations=4, checkpoint_every=1), resume=run.folder.name)
    assert later.state.step == 1
    drive(later, until=3)
    keeper._waiting.extend(waiting)
    begin(toy_config(iterations=1), name="next").close()
    assert load_checkpoint(run.folder.checkpoint).step == 3  # which the other program trains in, so that it waits
    assert keeper._waiting == waiting
    later.stop("cancelled")
    with caplog.at_level("WARNING"):
        begin(toy_config(iterations=1), name="next").close()
    assert load_checkpoint(run.folder.checkpoint).step == 3
    assert same(load_file(places.lora(run.folder.name)), later.policy.export())
    assert "has gone on to step 3: what was not written of step 2 is dropped" in caplog.text
    assert keeper._waiting == []


def test_a_checkpoint_that_exists_is_named_where_a_later_one_does_not_fit(begin, monkeypatch, caplog):
    run = begin(toy_config(iterations=4, checkpoint_every=1))
    drive(run, until=2)
    refuse_writes(monkeypatch, "checkpoint")
    drive(run, until=3)
    monkeypatch.undo()
    second = begin(toy_config(iterations=4, checkpoint_every=1), name="second")
    drive(second, until=2)
    refuse_writes(monkeypatch, "checkpoint")
    with caplog.at_level("WARNING"):
        drive(second, until=3)
        second.stop("cancelled")
    assert "goes on from step 2, as no later checkpoint could be written" in caplog.messages[-1]
    monkeypatch.undo()
    keeper._waiting.clear()  # ComfyUI was started again
    second = begin(toy_config(iterations=4, checkpoint_every=1), resume=second.folder.name)
    assert second.state.step == 2


@pytest.mark.parametrize(
    ("refused", "found"),
    [
        (("pave_00001.safetensors",), "loras/pave_00001_new.safetensors"),
        (("pave_00001.safetensors", "_new"), "runs/pave_00001/lora.safetensors"),
    ],
)
def test_a_lora_that_another_program_has_open_gets_another_name_and_training_goes_on(
    begin, places, monkeypatch, caplog, refused, found
):
    run = begin(toy_config(iterations=3, checkpoint_every=1))
    drive(run, until=1)
    refuse_writes(monkeypatch, *refused, number=errno.EACCES)
    with caplog.at_level("WARNING"):
        drive(run)
        outcome = run.finish()
    place = places.runs.parent / found
    assert run.keeper.lora == place
    assert same(load_file(place), outcome.lora)
    assert outcome.summary.to_dict()["lora"] == str(place)
    (warning,) = [said for said in caplog.messages if "LoRA could not" in said]
    assert "access is denied: close the programs that have it open" in warning
    assert f"it is in {place}" in warning
    monkeypatch.undo()
    run.expect(1)
    drive(run)
    assert run.keeper.lora == places.lora(run.folder.name)
    assert not place.exists()  # it was an older one


def test_a_lora_goes_to_the_spare_place_when_nothing_else_takes_it(begin, places, monkeypatch):
    run = begin(toy_config(iterations=1))
    refuse_writes(monkeypatch, "new", "lora.safe", "checkpoint")
    move = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, to: move(self, to if places.loras not in to.parents else to.with_name("new"))
    )
    drive(run)
    run.finish()
    assert run.keeper.lora == places.spare / "pave_00001.safetensors"
    assert same(load_file(run.keeper.lora), run.policy.export())


def test_a_run_that_can_write_nothing_says_so_and_gives_its_lora(begin, monkeypatch):
    run = begin(toy_config(iterations=2))
    refuse_writes(monkeypatch, "")
    drive(run)
    outcome = run.finish()
    assert same(outcome.lora, run.policy.export())
    assert outcome.summary.to_dict()["lora"] == "not written: the disk is full: free some space"
    assert "LoRA: not written: the disk is full" in outcome.summary.text()


def test_a_folder_that_vanishes_is_made_again_with_all_its_metrics(begin, places, caplog):
    run = begin(toy_config(iterations=4, checkpoint_every=1))
    drive(run, until=2)
    shutil.rmtree(places.runs)
    shutil.rmtree(places.loras)
    with caplog.at_level("WARNING"):
        drive(run)
    assert [said for said in caplog.messages if "run folder" in said] == [
        f"Pave-GRPO the run folder {run.folder.path} was removed or renamed: it is made again"
    ]
    with pytest.raises(ConfigError, match="is in use by"):
        begin(resume=run.folder.name)
    outcome = run.finish()
    assert load_checkpoint(run.folder.checkpoint).step == 4
    assert [record["step"] for record in lines(run.folder.metrics)] == [1, 2, 3, 4]
    assert same(load_file(places.lora(run.folder.name)), outcome.lora)
    assert (run.folder.path / "summary.json").exists()


def test_reports_that_cannot_be_written_do_not_end_a_run(begin, monkeypatch, caplog):
    run = begin(guard=GuardSettings(GuardConfig(every=2), Twin()))
    for name in ("metrics.jsonl", "guard.jsonl", "evaluations.json", "summary.json", "curve.png"):
        (run.folder.path / name).mkdir()
    monkeypatch.setattr(module, "before_after_grid", lambda *_: 1 / 0)  # as a broken library
    with caplog.at_level("WARNING"):
        drive(run)
        outcome = run.finish()
    plain = ToyTraining()
    list(plain.stream())
    assert same(run.policy.export(), plain.policy.export())
    assert outcome.grid.shape == (64, 64, 3)
    for name in ("MetricsFile", "guard.jsonl", "evaluations.json", "summary.json", "curve.png", "the grid"):
        assert any(name in said for said in caplog.messages), name


def test_what_cannot_be_kept_does_not_hide_what_ended_the_run(begin, caplog):
    """As after a device's error, when nothing can be read from it any more."""
    run = begin()
    drive(run, until=1)
    run.policy.export = run.state.capture = lambda *_: 1 / 0
    run._kept_lora = -1
    with caplog.at_level("WARNING"):
        run.stop("stopped (RuntimeError)")
    assert "what was learnt since could not be kept: ZeroDivisionError" in caplog.text
    assert "stopped (RuntimeError) after step 1: LoRA so far in" in caplog.messages[-1]


def test_listeners_hear_why_a_run_stops_before_they_are_closed(begin):
    hears = Hears()
    run = begin(toy_config(iterations=2), reporters=[hears])
    drive(run, until=1)
    run.stop("cancelled")
    assert [kind for kind, *_ in hears.said][-2:] == ["warning", "close"]
