"""The loop: determinism, interruption, learning, and what it refuses."""

import math

import pytest
import torch

from _toy import Brightness, Redness, Shy, ToyTraining, same, toy_config, weights, without_clock
from pave_core.errors import ConfigError, TrainingError
from pave_core.scoring.mix import RewardMix


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_the_same_seed_gives_the_same_run(optimizer_step):
    runs = [ToyTraining(toy_config(optimizer_step=optimizer_step)) for _ in range(2)]
    records = [without_clock(list(run.stream())) for run in runs]
    assert records[0] == records[1]
    assert same(weights(runs[0].policy), weights(runs[1].policy))


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_an_interruption_leaves_the_last_complete_step(optimizer_step):
    class CancelledError(Exception):
        pass

    reference = ToyTraining(toy_config(iterations=1, optimizer_step=optimizer_step))
    list(reference.stream())
    run = ToyTraining(toy_config(iterations=3, optimizer_step=optimizer_step))
    stream = run.stream()
    next(stream)
    calls = run.policy.calls

    def cancel():
        if run.policy.calls == 2 * calls - 2:  # in the update of the second step's last branch
            raise CancelledError

    run.policy.fail = cancel
    with pytest.raises(CancelledError):
        next(stream)
    assert run.state.step == 1
    assert same(weights(run.policy), weights(reference.policy))
    assert all(p.grad is None for p in run.policy.parameters().values())


def test_it_learns():
    run = ToyTraining(toy_config(iterations=30))
    rewards = [m.reward_mean for m in run.stream()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.01


def test_a_mix_learns_both():
    run = ToyTraining(toy_config(iterations=40), RewardMix((Brightness(), Redness()), (1.0, 1.0)))
    records = list(run.stream())
    for name in ("brightness", "redness"):
        assert sum(m.rewards[name][0] for m in records[-8:]) > sum(m.rewards[name][0] for m in records[:8])


class Returns:
    """A reward that gives back what it is told."""

    name = "odd"

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, images, prompts):
        return self.answer(len(images))


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda n: torch.full((n,), math.nan), TrainingError, "reward odd: returned nan"),
        (lambda n: torch.full((n,), math.inf), TrainingError, "reward odd: returned inf"),
        (lambda n: torch.zeros(n - 1), TrainingError, "reward odd: returned shape"),
        (lambda n: torch.zeros(n, 1), TrainingError, "reward odd: returned shape"),
        (lambda n: torch.full((n,), 0.25), ConfigError, "reward: odd = 0.25 for all"),
    ],
)
def test_a_reward_that_cannot_teach_is_refused(answer, error, message):
    run = ToyTraining(reward=Returns(answer))
    before = weights(run.policy)
    with pytest.raises(error, match=message):
        list(run.stream())
    assert same(weights(run.policy), before)


def test_groups_without_spread_are_counted_and_change_nothing():
    class OnlyCats:
        name = "cats"

        def __call__(self, images, prompts):
            return images.mean((1, 2, 3)) * torch.tensor([float(p == "a cat") for p in prompts])

    run = ToyTraining(toy_config(iterations=3), OnlyCats())
    records = list(run.stream())
    assert sum(m.zero_spread_groups for m in records) == 2 * sum(p != "a cat" for m in records for p in m.prompts)
    assert all(m.groups == 4 for m in records)
    assert [m.flat_groups["cats"] for m in records] == [m.zero_spread_groups for m in records]


def broken(velocity, only_with_gradient=True):
    """The velocity with NaN in it: everywhere, or only where it is trained."""

    def velocity_of_nan(x, sigma, conds):
        bad = torch.is_grad_enabled() or not only_with_gradient
        return velocity(x, sigma, conds) * (math.nan if bad else 1.0)

    return velocity_of_nan


def test_three_steps_that_are_not_finite_stop_the_run_and_keep_the_weights():
    run = ToyTraining(toy_config(iterations=10))
    stream = run.stream()
    next(stream)
    kept = weights(run.policy)
    run.policy.velocity = broken(run.policy.velocity)
    records = []
    with pytest.raises(TrainingError, match="step 4: .* 3 steps in a row: .*fp16.*Sage.*; else lower learning_rate"):
        records.extend(stream)
    assert run.state.skipped == 3
    assert same(weights(run.policy), kept)


def test_images_that_are_not_finite_are_a_skipped_step_not_a_bad_reward():
    run = ToyTraining(toy_config(iterations=10))
    run.policy.velocity = broken(run.policy.velocity, only_with_gradient=False)
    metrics = next(run.stream())
    assert metrics.skipped
    assert metrics.preview is None


def test_one_bad_step_is_skipped_and_the_run_goes_on():
    run = ToyTraining(toy_config(iterations=4))
    stream = run.stream()
    next(stream)
    velocity = run.policy.velocity
    run.policy.velocity = broken(velocity)
    assert next(stream).skipped
    run.policy.velocity = velocity
    assert [m.skipped for m in stream] == [False, False]
    assert run.state.skipped_in_a_row == 0


def test_a_judge_without_an_opinion_on_some_images_still_teaches():
    run = ToyTraining(toy_config(iterations=4), reward=Shy())
    before = weights(run.policy)
    records = list(run.stream())
    images = 2 * 2 * 4  # prompts, branch steps, group
    assert [m.unscored for m in records] == [math.ceil(images / 3)] * 4
    for m in records:
        numbers = (m.reward_mean, m.reward_std, *m.rewards["shy"], m.loss, m.grad_norm)
        assert all(math.isfinite(value) for value in numbers)
    assert not any(m.skipped for m in records)
    assert not same(before, weights(run.policy))
