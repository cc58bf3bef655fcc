"""The guard at work in a run: what it does, which weights come out, and that a run with a guard resumes bit for bit."""

import pytest
import torch
from safetensors.torch import load_file

from _toy import Brightness, Negative, Twin, drive, lines, same, toy_config, weights
from pave_core.evaluation.evaluate import Evaluation
from pave_core.evaluation.guard import GuardConfig, GuardSettings, Reading
from pave_core.runs.checkpoint import load_checkpoint
from pave_core.runs.watch import MAX_HALVINGS, Watch
from pave_core.training.state import Checkpoint

LOWERS = GuardSettings(GuardConfig(every=2, action="lower learning rate", max_drop=0.05), Negative())


def test_a_run_whose_held_out_reward_falls_is_stopped_and_its_best_weights_come_out(begin):
    guard = GuardSettings(GuardConfig(every=2, max_drop=0.3), Negative())
    run = begin(toy_config(iterations=40), guard=guard)
    steps = drive(run)
    assert 2 <= len(steps) < 40
    assert "the held-out reward fell from" in run.stopped
    *calm, last = run.watch.readings
    assert last.alarms
    assert last.drop > 0.3
    assert all(reading.drop <= 0.3 for reading in calm)
    outcome = run.finish()
    best = max(calm, key=lambda reading: reading.held_out)
    assert run.chosen.step == run.chosen_step == outcome.lora.recipe["step"] == best.step
    assert run.watch.readings == [*calm, last]
    # Oracle: the weights that were chosen give, measured anew, the reward that was read.
    run.state.return_to(run.chosen)
    assert same(run.policy.export(), outcome.lora)
    run.measurements.evaluations.clear()
    assert run.measurements.measure(best.step)[0].held_out.mean().item() == best.held_out


def test_a_run_that_gets_better_is_left_alone(begin, places):
    guard = GuardSettings(GuardConfig(every=3, max_drop=0.1), Twin())
    run = begin(toy_config(iterations=8), guard=guard)
    assert len(drive(run)) == 8
    for _ in range(2):  # finishing again measures nothing again
        outcome = run.finish()
        assert [reading.step for reading in run.watch.readings] == [3, 6, 8]
        assert same(load_file(places.lora(run.folder.name)), outcome.lora)
    assert run.stopped is None
    assert run.chosen.step == 8
    assert not len(run.measurements.evaluations[3].images)
    assert len(run.measurements.evaluations[8].images)


def test_lowering_the_learning_rate_goes_back_to_the_best_weights_and_ends_at_the_fourth_alarm(begin):
    run = begin(toy_config(iterations=60), guard=LOWERS)
    rates, halvings = [], []
    while run.state.step < 60 and not run.stopped:
        (metrics,) = drive(run, until=run.state.step + 1)
        rates.append(metrics.learning_rate)
        reading = run.watch.readings[-1] if run.watch.due(metrics.step) else None
        if reading is not None and reading.alarms and not run.stopped:
            adapter = run.state.capture({}).adapter
            assert all(torch.equal(adapter[name], run.watch.best.adapter[name]) for name in adapter)
        halvings.append(run.state.halvings)
    assert run.state.halvings == MAX_HALVINGS
    assert sum(bool(reading.alarms) for reading in run.watch.readings) == MAX_HALVINGS + 1
    full = run.config.optim.learning_rate
    assert rates == [full / 2**before for before in [0, *halvings[:-1]]]


@pytest.mark.parametrize(
    ("config", "alarm"),
    [
        (GuardConfig(max_drift=1e-9), "the model has drifted by"),
        (GuardConfig(max_change=1e-9), "of the images has changed by"),
    ],
)
def test_drift_and_statistics_raise_their_own_alarms_without_a_held_out_reward(begin, config, alarm):
    run = begin(toy_config(iterations=10), guard=GuardSettings(config, None))
    fresh = weights(run.policy)
    drive(run)
    assert alarm in run.stopped
    assert run.chosen.step == 0  # not one measurement was without an alarm
    assert same(run.chosen.adapter, fresh)
    assert run.finish().lora.recipe["step"] == 0


def files(run):
    """What a run left: records of the steps and of the guard, and the tensors of its states."""
    states = [load_checkpoint(file) for file in (run.folder.checkpoint, run.folder.best)]
    tensors = [state.adapter | state.optimizer for state in states]
    return [lines(run.folder.metrics), lines(run.folder.path / "guard.jsonl")], tensors


def assert_same_run(resumed, whole):
    """Every number and every bit of two runs, in memory and on disk."""
    assert [r.to_dict() for r in resumed.watch.readings] == [r.to_dict() for r in whole.watch.readings]
    ours, theirs = resumed.state.capture({}), whole.state.capture({})
    assert ours.counters == theirs.counters
    assert ours.counters["halvings"] > 0
    assert same(ours.adapter, theirs.adapter)
    assert same(ours.optimizer, theirs.optimizer)
    assert resumed.chosen.step == whole.chosen.step
    assert same(resumed.chosen.adapter, whole.chosen.adapter)
    assert same(resumed.finish().lora, whole.finish().lora)
    (records, tensors), (expected, states) = files(resumed), files(whole)
    assert records == expected
    assert all(same(ours, theirs) for ours, theirs in zip(tensors, states, strict=True))


@pytest.mark.parametrize("cut", [3, 4, 7])
def test_a_guarded_run_resumes_bit_for_bit(begin, cut):
    """With alarms, so that halvings and the best weights have to come back too."""
    config = toy_config(iterations=10)
    whole = begin(config, guard=LOWERS, name="whole")
    drive(whole)
    first = begin(config, guard=LOWERS, name="cut")
    drive(first, until=cut)
    first.stop("cancelled")
    second = begin(config, guard=LOWERS, resume=first.folder.name)
    assert second.state.step == cut
    drive(second)
    assert_same_run(second, whole)


@pytest.mark.parametrize(("cut", "kept"), [(3, 2), (5, 4), (9, 8)])
def test_a_guarded_run_that_was_killed_goes_on_from_its_last_checkpoint_bit_for_bit(begin, cut, kept):
    """Nothing says goodbye: metrics are ahead of the checkpoint, and the last line of a file may be torn."""
    config = toy_config(iterations=10)
    whole = begin(config, guard=LOWERS, name="whole")
    drive(whole)
    first = begin(config, guard=LOWERS, name="killed")
    drive(first, until=cut)
    for file in ("metrics.jsonl", "guard.jsonl"):
        with (first.folder.path / file).open("a") as records:
            records.write('{"step": 9, "torn')
    first.folder.release()  # as the end of the process does
    second = begin(config, guard=LOWERS, resume=first.folder.name)
    assert second.state.step == kept
    assert len(second.history) == kept
    drive(second)
    assert_same_run(second, whole)


def test_a_reading_that_cancel_has_cut_off_is_made_where_the_run_goes_on(begin):
    """Step 4 is complete, and what the guard would have done after it is not done yet."""
    config = toy_config(iterations=10)
    whole = begin(config, guard=LOWERS, name="whole")
    drive(whole)
    first = begin(config, guard=LOWERS, name="cut")
    drive(first, until=3)

    class Cancelled(BaseException):
        pass

    def cancel(*_):
        raise Cancelled

    first.watch.check = cancel
    with pytest.raises(Cancelled):
        drive(first)
    first.stop("cancelled")
    assert load_checkpoint(first.folder.checkpoint).step == 4
    second = begin(config, guard=LOWERS, resume=first.folder.name)
    assert second.watch.has_read(4)
    drive(second)
    assert_same_run(second, whole)


def watch_of(config):
    """A watch over four images whose held-out scores are 0, 1, 2, 3, and whose drift is always 0.5."""

    class Probe:
        def measure(self, policy):
            return 0.5

    images, scores = torch.zeros(4, 2, 2, 3), torch.tensor([0.0, 1.0, 2.0, 3.0])
    before = Evaluation(("a",) * 4, (1, 2, 3, 4), images, {}, scores, None, scores)
    return Watch(config, before, probe=Probe(), fresh=Checkpoint(0, {}, {}, {}, {}))


def test_it_is_due_at_every_nth_step():
    watch = watch_of(GuardConfig(every=3))
    assert [step for step in range(1, 10) if watch.due(step)] == [3, 6, 9]
    assert [watch.steps_to_check(step) for step in range(7)] == [3, 2, 1, 3, 2, 1, 3]


def reading(step, alarms=(), best=False):
    return Reading(step, 1.0, 0.0, 0.0, {}, alarms, best)


def test_the_newest_weights_come_out_until_something_was_measured():
    watch = watch_of(GuardConfig())
    assert watch.chosen is None
    assert not watch.has_read(3)
    newest = Checkpoint(4, {"config": {}}, {}, {}, {})
    watch.resume([reading(3)], None, newest)
    assert watch.has_read(3)
    assert watch.chosen is None
    watch.resume([reading(3, ("it fell",))], None, newest)
    assert watch.chosen is watch.best
    assert watch.best.step == 0
    best = Checkpoint(3, {"held_out": 1.0}, {}, {}, {})
    watch.resume([reading(3, best=True)], best, newest)
    assert watch.chosen is best


def test_the_guard_leaves_a_run_without_alarms_as_it_is(begin):
    """Oracle: the same run without a guard."""
    guarded = begin(toy_config(iterations=6), guard=GuardSettings(GuardConfig(every=2), Twin()), name="guarded")
    plain = begin(toy_config(iterations=6), name="plain")
    drive(guarded)
    drive(plain)
    assert same(weights(guarded.policy), weights(plain.policy))
    assert lines(guarded.folder.metrics) == lines(plain.folder.metrics)


def test_alarms_are_told_and_written_down(begin, caplog):
    run = begin(toy_config(iterations=60), guard=LOWERS)
    with caplog.at_level("WARNING"):
        drive(run)
    told = [record.getMessage() for record in caplog.records]
    alarms = [reading for reading in run.watch.readings if reading.alarms]
    assert len(told) == len(alarms) == MAX_HALVINGS + 1
    for message, at in zip(told, alarms, strict=True):
        assert message.startswith(f"Pave-GRPO guard, step {at.step}: the held-out reward fell from")
    assert all("with half the learning rate" in message for message in told[:-1])
    assert told[-1].endswith("the run ends here")
    assert [record["step"] for record in lines(run.folder.path / "guard.jsonl")] == [r.step for r in run.watch.readings]


def test_the_judge_is_the_guard_s_reward_where_it_has_none_of_its_own(begin):
    run = begin(guard=GuardSettings(GuardConfig(every=2), None), judge=Negative(), reward=Brightness())
    drive(run)
    evaluation = run.measurements.evaluations[4]
    assert evaluation.held_out is evaluation.judge
    assert run.watch.readings[-1].held_out == evaluation.judge.mean().item()
