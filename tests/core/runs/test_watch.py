"""Guard and reward check: what they see, what they do, and that a run with a guard resumes bit for bit."""

import copy
import math

import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.evaluation.drift import DriftProbe
from pave_core.evaluation.guard import MAX_HALVINGS, GuardConfig, GuardSettings
from pave_core.evaluation.reward_check import check_reward, check_scores
from pave_core.images import picture
from pave_core.pictures.curve import reward_curve
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.runs.folder import RunFolder
from pave_core.runs.measurements import HeldOut
from pave_core.scoring.mix import RewardMix

SEEDS = (1, 2, 3, 4)


class Negative:
    """The opposite of what is trained on: it falls as the reward rises."""

    name = "negative"

    def __call__(self, images, prompts):
        return -images.mean((1, 2, 3))


class Twin(Negative):
    """Rises with the reward."""

    name = "twin"

    def __call__(self, images, prompts):
        return images.mean((1, 2, 3))


class Constant:
    name = "constant"

    def __call__(self, images, prompts):
        return torch.ones(len(images))


def watched(run, guard, fresh=None):
    """The measurements of a toy run with a guard."""
    fresh = fresh or run.state.capture({})
    return HeldOut(run.policy, run.decoder, run.reward, None, guard, run.conds, SEEDS, run.config.rollout, fresh)


def drive(run, held_out, until=None):
    """Train as Run does; the steps that were made."""
    steps = []
    for metrics in run.stream():
        steps.append(metrics)
        if held_out.guard_is_due(metrics.step):
            held_out.guard(run.state)
        if held_out.watch.stopped or metrics.step == until:
            break
    return steps


def test_a_run_whose_held_out_reward_falls_is_stopped_and_its_best_weights_come_out(toy):
    run = toy(toy.config(iterations=40))
    held_out = watched(run, GuardSettings(GuardConfig(every=2, max_drop=0.3), Negative()))
    steps = drive(run, held_out)
    assert 2 <= len(steps) < 40
    assert "the held-out reward has fallen to" in held_out.watch.stopped
    *calm, last = held_out.readings
    assert last.alarms
    assert last.drop > 0.3
    assert all(reading.drop <= 0.3 for reading in calm)
    held_out.finish(run.state)
    best = max(calm, key=lambda reading: reading.held_out)
    assert held_out.chosen.step == best.step
    # Oracle: the weights that were chosen give, measured anew, the reward that was read.
    run.state.return_to(held_out.chosen)
    held_out.evaluations.clear()
    assert held_out.evaluate(best.step).held_out.mean().item() == best.held_out


def test_a_run_that_gets_better_is_left_alone(toy):
    run = toy(toy.config(iterations=8))
    held_out = watched(run, GuardSettings(GuardConfig(every=3, max_drop=0.1), Twin()))
    assert len(drive(run, held_out)) == 8
    assert held_out.finish(run.state).step == 8
    assert held_out.finish(run.state) is None
    assert held_out.watch.stopped is None
    assert [reading.step for reading in held_out.readings] == [3, 6, 8]
    assert held_out.chosen.step == 8
    assert not len(held_out.evaluations[3].images)
    assert len(held_out.evaluations[8].images)


def test_lowering_the_learning_rate_goes_back_to_the_best_weights_and_ends_at_the_fourth_alarm(toy):
    run = toy(toy.config(iterations=60))
    held_out = watched(run, GuardSettings(GuardConfig(every=2, action="lower learning rate", max_drop=0.05), Negative()))
    rates, halvings = [], []
    for metrics in run.stream():
        rates.append(metrics.learning_rate)
        if held_out.guard_is_due(metrics.step):
            reading = held_out.guard(run.state)
            if reading.alarms and not held_out.watch.stopped:
                adapter = run.state.capture({}).adapter
                assert all(torch.equal(adapter[name], held_out.watch.best.adapter[name]) for name in adapter)
        halvings.append(run.state.halvings)
        if held_out.watch.stopped:
            break
    assert run.state.halvings == MAX_HALVINGS
    assert sum(bool(reading.alarms) for reading in held_out.readings) == MAX_HALVINGS + 1
    full = run.config.optim.learning_rate
    assert rates == [full / 2**before for before in [0, *halvings[:-1]]]


def test_drift_is_zero_for_the_base_and_that_of_a_plain_computation_else(toy):
    run = toy(toy.config(iterations=3))
    with run.policy.reference():
        probe = DriftProbe(run.policy, run.conds, run.config.rollout)
    assert probe.measure(run.policy) == 0
    for _ in run.stream():
        pass
    moved, base, sigmas = [], [], run.policy.sigmas(6)
    for cond in run.conds.values():
        x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * sigmas[0]
        for k in range(5):
            sigma = torch.tensor([sigmas[k]])
            with torch.no_grad():
                now = run.policy.velocity(x, sigma, cond)
                with run.policy.reference():
                    before = run.policy.velocity(x, sigma, cond)
            if k in (1, 3, 4):
                moved.append((now - before).square().mean())
                base.append(before.square().mean())
            x = x + (sigmas[k + 1] - sigmas[k]) * before
    assert probe.measure(run.policy) == pytest.approx((sum(moved) / sum(base)).item(), rel=1e-5)
    assert probe.measure(run.policy) > 0


@pytest.mark.parametrize(
    ("config", "alarm"),
    [
        (GuardConfig(max_drift=1e-9), "the model has drifted by"),
        (GuardConfig(max_change=1e-9), "of the images has changed by"),
    ],
)
def test_drift_and_statistics_raise_their_own_alarms_without_a_held_out_reward(toy, config, alarm):
    run = toy(toy.config(iterations=10))
    held_out = watched(run, GuardSettings(config, None))
    drive(run, held_out)
    assert alarm in held_out.watch.stopped
    assert held_out.chosen.step == 0  # not one measurement was without an alarm


def test_what_the_guard_cannot_watch_is_refused(toy):
    run = toy()
    with pytest.raises(ConfigError, match="guard: there is nothing to watch: connect a held-out reward"):
        watched(run, GuardSettings(GuardConfig(), None))
    with pytest.raises(ConfigError, match="guard: its held-out reward 'brightness' is trained on"):
        watched(run, GuardSettings(GuardConfig(), RewardMix((Negative(), toy.Brightness()), (1.0, 1.0))))
    with pytest.raises(ConfigError, match="guard: its held-out reward gives all 12 held-out images the same number"):
        watched(run, GuardSettings(GuardConfig(), Constant()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every": 0}, "every: 0 is below 1"),
        ({"action": "pray"}, "action: 'pray' is not known"),
        ({"max_drop": -0.1}, "max_drop: -0.1 is below 0"),
        ({"max_drift": math.nan}, "max_drift: nan"),
        ({"max_change": math.inf}, "max_change: inf"),
    ],
)
def test_bad_thresholds_name_the_field(values, message):
    with pytest.raises(ConfigError, match=message):
        GuardConfig(**values)


@pytest.mark.parametrize("cut", [3, 4, 7])
def test_a_guarded_run_resumes_bit_for_bit(toy, tmp_path, cut):
    """With alarms, so that halvings and the best weights have to come back too."""
    guard = GuardSettings(GuardConfig(every=2, action="lower learning rate", max_drop=0.05), Negative())
    whole = toy(toy.config(iterations=10))
    measured = watched(whole, guard)
    drive(whole, measured)

    folder = RunFolder.new(tmp_path, "run")
    first = toy(toy.config(iterations=10))
    held_out = watched(first, guard)
    for metrics in first.stream():
        if held_out.guard_is_due(metrics.step):
            reading = held_out.guard(first.state)
            folder.log_reading(reading)
            if reading.best:
                save_checkpoint(folder.best, held_out.watch.best)
        if metrics.step == cut:
            break
    save_checkpoint(folder.checkpoint, first.state.capture({}))
    folder.close()

    second = toy(toy.config(iterations=10))
    fresh = second.state.capture({})
    second.state.restore(load_checkpoint(folder.checkpoint))
    resumed = watched(second, guard, fresh)
    resumed.watch.resume(folder.rewind_readings(cut), folder.load_best(cut))
    drive(second, resumed)
    assert [r.to_dict() for r in resumed.readings] == [r.to_dict() for r in measured.readings]
    ours, theirs = second.state.capture({}), whole.state.capture({})
    assert ours.counters == theirs.counters
    assert ours.counters["halvings"] > 0
    assert all(torch.equal(ours.adapter[name], theirs.adapter[name]) for name in theirs.adapter)
    assert resumed.chosen.step == measured.chosen.step
    assert all(torch.equal(resumed.chosen.adapter[name], measured.chosen.adapter[name]) for name in theirs.adapter)


def test_the_curve_shows_guard_and_judge(toy, artifacts):
    run = toy(toy.config(iterations=12), RewardMix((toy.Brightness(), toy.Redness()), (1.0, 1.0)))
    fresh = run.state.capture({})
    guard = GuardSettings(GuardConfig(every=3, max_drop=0.5), Negative())
    held_out = HeldOut(run.policy, run.decoder, run.reward, toy.Redness(), guard, run.conds, SEEDS, run.config.rollout, fresh)
    history = [metrics.to_dict() for metrics in drive(run, held_out)]
    held_out.finish(run.state)
    guarded = reward_curve(history, held_out.evaluations, held_out.readings, held_out.chosen.step)
    plain = reward_curve(history, held_out.evaluations)
    assert guarded.shape[0] > plain.shape[0]
    picture(guarded).save(artifacts / "core_guarded_curve.png")


# the reward check


class Noisy:
    """Gives another number each time."""

    name = "noisy"

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, images, prompts):
        return torch.randn(len(images), generator=self.generator)


class Lamp:
    """1 where the image is bright, else 0: all of a dark group are the same."""

    name = "lamp"

    def __call__(self, images, prompts):
        return (images.mean((1, 2, 3)) > 0.5).float()


def check(reward, images, groups, size):
    return check_scores(RewardMix.of(reward), images, [""] * len(images), (1, groups, size), tuple(range(groups)))


def test_a_reward_that_grades_can_teach(toy):
    run = toy()
    before = copy.deepcopy(run.state.capture({}).adapter)
    found = check_reward(run.policy, run.decoder, run.reward, run.conds, run.config)
    assert found.problem is None
    assert found.verdict.startswith("This reward can tell your images apart")
    assert found.mix.groups == 4  # two prompts, two branch steps
    assert found.rewards["brightness"].noise == 0
    images = found.images.view(4, 4, -1).mean(-1)
    assert found.mix.spread == pytest.approx(images.std(1).mean().item(), rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in run.state.capture({}).adapter.items())


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (Constant(), "it gives all images of a group the same number, in all 4 groups"),
        (Lamp(), "in 3 of 4 groups: it grades too coarsely"),
        (Noisy(), "is no more than its own noise"),
    ],
)
def test_a_reward_that_cannot_teach_is_told_why(reward, reason):
    images = torch.rand(4, 3, 8, 8, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    images[0, 0] += 0.7
    found = check(reward, images.flatten(0, 1), 4, 3)
    assert reason in found.problem
    assert found.verdict.startswith("This reward cannot tell your images apart")
    assert found.verdict in found.text()


def test_rewards_that_agree_or_disagree_are_named(toy):
    images = torch.rand(12, 8, 8, 3, generator=torch.Generator().manual_seed(2))
    images *= torch.rand(12, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    mix = RewardMix((toy.Brightness(), Negative(), Constant()), (1.0, 0.5, 1.0))
    found = check(mix, images, 3, 4)
    assert found.correlations[("brightness", "negative")] == pytest.approx(-1, abs=1e-4)
    assert found.correlations[("brightness", "constant")] == 0
    assert "brightness and negative: correlation -1.00, they pull against each other" in found.text()
    assert "constant: it gives all images of a group the same number" in found.text()
    assert found.problem is None
