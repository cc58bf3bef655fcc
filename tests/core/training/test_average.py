"""The running mean of the adapter: it follows every update, and is what is evaluated, watched, exported and saved."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from _toy import SEEDS, Brightness, ToyTraining, drive, same, toy_config, weights
from pave_core.config.optimizer import OptimConfig
from pave_core.errors import ConfigError
from pave_core.evaluation.drift import DriftProbe
from pave_core.evaluation.evaluate import evaluate
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.scoring.mix import RewardMix

DECAY = 0.75


def averaging(iterations=4, optimizer_step="accumulated", updates=1, **rollout):
    config = toy_config(iterations, optimizer_step, **rollout)
    pave = replace(config.pave, updates_per_rollout=updates)
    return replace(config, optim=replace(config.optim, ema_decay=DECAY), pave=pave)


def values(named):
    return torch.cat([value.flatten().double() for value in named.values()])


def test_it_is_the_weighted_mean_of_all_the_weights_so_far():
    """0.25 (w_4 + 0.75 w_3 + 0.75^2 w_2 + ...), and the fresh adapter has what is left."""
    run = ToyTraining(averaging())
    passed = [values(weights(run.policy))]
    assert same(run.state.average, weights(run.policy))
    passed += [values(weights(run.policy)) for _ in run.stream()]
    shares = [DECAY**4] + [(1 - DECAY) * DECAY ** (4 - i) for i in range(1, 5)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * w for share, w in zip(shares, passed, strict=True))
    torch.testing.assert_close(values(run.state.average), expected, rtol=0, atol=5e-7)
    assert not torch.allclose(values(run.state.average), passed[-1])


@pytest.mark.parametrize(("config", "updates"), [(averaging(1, updates=3), 3), (averaging(1, "per_step"), 4)])
def test_it_follows_each_step_of_the_optimizer(config, updates):
    run, passed = ToyTraining(config), []
    step = run.state.optimizer.step

    def watched():
        step()
        passed.append(values(weights(run.policy)))

    run.state.optimizer.step = watched
    mean = values(weights(run.policy))
    list(run.stream())
    assert len(passed) == updates
    for w in passed:
        mean = DECAY * mean + (1 - DECAY) * w
    torch.testing.assert_close(values(run.state.average), mean, rtol=0, atol=5e-7)


def test_training_is_the_same_with_and_without():
    with_mean, without = ToyTraining(averaging()), ToyTraining(toy_config())
    records = [[record.loss for record in run.stream()] for run in (with_mean, without)]
    assert records[0] == records[1]
    assert same(weights(with_mean.policy), weights(without.policy))
    assert without.state.average == {}


def test_a_step_that_is_not_finite_does_not_move_it():
    run = ToyTraining(averaging())
    stream = run.stream()
    next(stream)
    before = run.state.capture({}).average
    velocity = run.policy.velocity
    run.policy.velocity = lambda *inputs: velocity(*inputs) * float("nan" if torch.is_grad_enabled() else 1)
    assert next(stream).skipped
    assert same(run.state.average, before)


def test_showing_is_the_mean_and_training_goes_on_from_the_newest():
    run = ToyTraining(averaging())
    stream = run.stream()
    next(stream)
    newest, mean = weights(run.policy), run.state.capture({}).average
    with run.state.showing():
        assert same(weights(run.policy), mean)
    assert same(weights(run.policy), newest)
    early = run.state.capture({})
    next(stream)
    with run.state.showing(early):
        assert same(weights(run.policy), mean)
    assert early.weights is early.average


def test_a_checkpoint_keeps_both(tmp_path):
    run = ToyTraining(averaging(iterations=2))
    list(run.stream())
    save_checkpoint(tmp_path / "checkpoint.safetensors", run.state.capture({}))
    saved = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert same(saved.average, run.state.average)
    assert same(saved.adapter, weights(run.policy))
    assert not same(saved.average, saved.adapter)


def test_it_is_what_is_evaluated_exported_and_saved(begin, places):
    run = begin(averaging(iterations=3))
    drive(run)
    newest = weights(run.policy)
    outcome = run.finish()
    assert same(weights(run.policy), newest)
    assert same(outcome.lora, run.policy.export(run.state.average))
    assert same(load_file(places.lora(run.folder.name)), outcome.lora)
    assert not same(outcome.lora, run.policy.export())
    alone = ToyTraining(averaging(iterations=3))
    with torch.no_grad():
        for name, p in alone.policy.parameters().items():
            p.copy_(run.state.average[name])
    reward = RewardMix.of(Brightness())
    expected = evaluate(
        alone.policy, alone.decoder, reward=reward, conds=alone.conds, seeds=SEEDS, config=alone.config.rollout
    )
    assert torch.equal(run.measurements.evaluations[3].images, expected.images)


class Turns(Brightness):
    """Likes bright images, until it is told not to."""

    name = "turns"
    sign = 1

    def __call__(self, images, prompts):
        return self.sign * super().__call__(images, prompts)


def test_the_guard_measures_it_and_goes_back_with_it(begin):
    turns = Turns()
    guard = GuardSettings(GuardConfig(every=2, max_drop=0.01, action="lower learning rate"), turns)
    run = begin(averaging(iterations=4), guard=guard)
    drive(run, until=2)
    best = run.watch.best
    assert best.step == 2
    assert same(best.average, run.state.average)
    base = ToyTraining(run.config)
    with base.policy.reference():
        probe = DriftProbe(base.policy, base.conds, base.config.rollout)
    with base.state.showing(best):
        assert run.watch.readings[0].drift == pytest.approx(probe.measure(base.policy), rel=1e-5)
    turns.sign = -1
    drive(run)
    assert run.watch.readings[-1].alarms
    assert same(weights(run.policy), best.adapter)
    assert same(run.state.average, best.average)
    outcome = run.finish()
    assert run.chosen_step == 2
    assert same(outcome.lora, run.policy.export(best.average))
    assert not same(outcome.lora, run.policy.export(best.adapter))


def test_a_checkpoint_without_the_running_mean_is_refused_and_one_with_it_where_there_is_none():
    averaged, plain = (ToyTraining(replace(toy_config(), optim=OptimConfig(ema_decay=decay))) for decay in (0.5, 0.0))
    for state, other in ((averaged.state, plain.state), (plain.state, averaged.state)):
        with pytest.raises(ConfigError, match="^resume: .* running mean of the weights: resume with the ema_decay"):
            state.restore(other.capture({}))
