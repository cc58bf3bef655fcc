"""The loop: determinism, resume, interruption, learning, and what it refuses."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from pave_core.config.optimizer import OptimizerName
from pave_core.errors import ConfigError, TrainingError
from pave_core.evaluation.evaluate import evaluate
from pave_core.evaluation.gain import comparison_table, paired_gain, summarise
from pave_core.flow.solvers import ode
from pave_core.pictures.sheets import before_after_grid
from pave_core.rollout.branches import sample_rollout
from pave_core.rollout.curriculum import prompts_of_step
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.scoring.mix import RewardMix
from pave_core.seeds import seeded


def weights(run):
    return {name: p.detach().clone() for name, p in run.policy.parameters().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def figures(metrics):
    """The record without its clock."""
    return {k: v for k, v in metrics.to_dict().items() if k != "seconds"}


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_the_same_seed_gives_the_same_run(toy, optimizer_step):
    runs = [toy(toy.config(optimizer_step=optimizer_step)) for _ in range(2)]
    records = [[figures(m) for m in run.stream()] for run in runs]
    assert records[0] == records[1]
    assert same(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_resume_is_the_uninterrupted_run_bit_for_bit(toy, tmp_path, optimizer_step):
    whole = toy(toy.config(iterations=5, optimizer_step=optimizer_step))
    records = [figures(m) for m in whole.stream()]

    first = toy(toy.config(iterations=5, optimizer_step=optimizer_step))
    for metrics in first.stream():
        if metrics.step == 2:
            save_checkpoint(tmp_path / "checkpoint.safetensors", first.state.capture({"recipe": 1}))
            break
    second = toy(toy.config(iterations=5, optimizer_step=optimizer_step))
    second.state.restore(load_checkpoint(tmp_path / "checkpoint.safetensors"))
    assert [figures(m) for m in second.stream()] == records[2:]
    assert same(weights(second), weights(whole))
    assert same(second.state.capture({}).optimizer, whole.state.capture({}).optimizer)


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer_learns_and_resumes_bit_for_bit(toy, tmp_path, optimizer):
    base = toy.config(iterations=6)
    optim = replace(base.optim, optimizer=optimizer, schedule="cosine", decay_steps=6, learning_rate=1e-3 if optimizer != "SGD" else 1.0)
    config = replace(base, optim=optim)
    whole, first, second = toy(config), toy(config), toy(config)
    fresh = weights(whole)
    records = [figures(m) for m in whole.stream()]
    assert not same(weights(whole), fresh)
    for metrics in first.stream():
        if metrics.step == 3:
            save_checkpoint(tmp_path / "checkpoint.safetensors", first.state.capture({"recipe": 1}))
            break
    second.state.restore(load_checkpoint(tmp_path / "checkpoint.safetensors"))
    assert [figures(m) for m in second.stream()] == records[3:]
    assert same(weights(second), weights(whole))


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_an_interruption_leaves_the_last_complete_step(toy, optimizer_step):
    class CancelledError(Exception):
        pass

    reference = toy(toy.config(iterations=1, optimizer_step=optimizer_step))
    list(reference.stream())
    run = toy(toy.config(iterations=3, optimizer_step=optimizer_step))
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
    assert same(weights(run), weights(reference))
    assert all(p.grad is None for p in run.policy.parameters().values())


def test_it_learns(toy):
    run = toy(toy.config(iterations=30))
    rewards = [m.reward_mean for m in run.stream()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.01


def test_a_mix_learns_both(toy):
    run = toy(toy.config(iterations=40), RewardMix((toy.Brightness(), toy.Redness()), (1.0, 1.0)))
    records = list(run.stream())
    for name in ("brightness", "redness"):
        assert sum(m.rewards[name][0] for m in records[-8:]) > sum(m.rewards[name][0] for m in records[:8])


def test_every_prompt_has_its_turn(toy):
    config, prompts = toy.config(), ["a", "b", "c"]
    chosen = [p for step in range(6) for p in prompts_of_step(prompts, config, step)]
    for epoch in range(4):
        assert sorted(chosen[3 * epoch : 3 * epoch + 3]) == prompts


def test_branches_leave_the_anchor_and_reach_the_end_by_the_ode(toy):
    run = toy()
    config, cond = run.config.rollout, run.conds["a cat"]
    rollout = sample_rollout(run.policy, "a cat", cond, config, seeded(0, "test"))
    sigmas = rollout.sigmas
    noise = torch.randn(1, *run.policy.latent_shape, generator=seeded(0, "test"))
    torch.testing.assert_close(rollout.anchor_final, ode(run.policy, noise, cond, sigmas, 1))
    for i, k in enumerate(config.branch_steps):
        torch.testing.assert_close(rollout.starts[i], ode(run.policy, noise, cond, sigmas[: k + 1], 1))
        torch.testing.assert_close(rollout.finals[i], ode(run.policy, rollout.branches[i], cond, sigmas[k + 1 :], 3))
    assert rollout.branches.std(1).min() > 0


def test_batch_size_does_not_change_the_images(toy):
    run = toy()
    rollouts = [sample_rollout(run.policy, "a cat", run.conds["a cat"], toy.config(batch_size=b).rollout, seeded(0)) for b in (1, 64)]
    torch.testing.assert_close(rollouts[0].finals, rollouts[1].finals)


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
def test_a_reward_that_can_not_teach_is_refused(toy, answer, error, message):
    run = toy(reward=Returns(answer))
    before = weights(run)
    with pytest.raises(error, match=message):
        list(run.stream())
    assert same(weights(run), before)


def test_groups_without_spread_are_counted_and_change_nothing(toy):
    class OnlyCats:
        name = "cats"

        def __call__(self, images, prompts):
            return images.mean((1, 2, 3)) * torch.tensor([float(p == "a cat") for p in prompts])

    run = toy(toy.config(iterations=3), OnlyCats())
    records = list(run.stream())
    assert sum(m.zero_spread_groups for m in records) == 2 * sum(p != "a cat" for m in records for p in m.prompts)
    assert all(m.groups == 4 for m in records)


def test_three_steps_that_are_not_finite_stop_the_run_and_keep_the_weights(toy):
    run = toy(toy.config(iterations=10))
    stream = run.stream()
    next(stream)
    kept = weights(run)
    velocity = run.policy.velocity

    def broken(x, sigma, cond):
        return velocity(x, sigma, cond) * (math.nan if torch.is_grad_enabled() else 1.0)

    run.policy.velocity = broken
    records = []
    with pytest.raises(TrainingError, match="step 4: .* 3 steps in a row"):
        records.extend(stream)
    assert run.state.skipped == 3
    assert same(weights(run), kept)


def test_images_that_are_not_finite_are_a_skipped_step_not_a_bad_reward(toy):
    run = toy(toy.config(iterations=10))
    velocity = run.policy.velocity
    run.policy.velocity = lambda x, sigma, cond: velocity(x, sigma, cond) * math.nan
    metrics = next(run.stream())
    assert metrics.skipped
    assert metrics.preview is None


def test_one_bad_step_is_skipped_and_the_run_goes_on(toy):
    run = toy(toy.config(iterations=4))
    stream = run.stream()
    next(stream)
    velocity = run.policy.velocity
    run.policy.velocity = lambda x, sigma, cond: velocity(x, sigma, cond) * (math.nan if torch.is_grad_enabled() else 1.0)
    assert next(stream).skipped
    run.policy.velocity = velocity
    assert [m.skipped for m in stream] == [False, False]
    assert run.state.skipped_in_a_row == 0


class Shy:
    """Brightness, but of every third image it has no opinion."""

    name = "shy"
    may_abstain = True

    def __call__(self, images, prompts):
        scores = images.mean((1, 2, 3))
        scores[::3] = math.nan
        return scores


def test_a_judge_without_an_opinion_on_some_images_still_teaches(toy):
    run = toy(toy.config(iterations=4), reward=Shy())
    before = weights(run)
    records = list(run.stream())
    images = 2 * 2 * 4  # prompts, branch steps, group
    assert [m.unscored for m in records] == [math.ceil(images / 3)] * 4
    assert all(math.isfinite(value) for m in records for value in (m.reward_mean, m.reward_std, *m.rewards["shy"], m.loss, m.grad_norm))
    assert not any(m.skipped for m in records)
    assert not same(before, weights(run))


def test_held_out_gains_leave_out_pairs_without_a_score(toy):
    run = toy(toy.config(iterations=2), reward=Shy())
    arguments = (run.policy, run.decoder, run.reward, None, None, run.conds, (1, 2), run.config.rollout)
    first = evaluate(*arguments)
    list(run.stream())
    second = evaluate(*arguments)
    assert first.total.isnan().tolist() == [True, False, False] * 2
    compared = summarise(first, second)
    scored = ~first.total.isnan()
    assert compared["reward_before"] == pytest.approx(first.total[scored].mean().item())
    assert paired_gain(first.total, second.total)[0] == pytest.approx((second.total - first.total)[scored].mean().item())
    assert "nan" not in comparison_table(first, second, ("a", "b"))
    assert before_after_grid(first, second).isfinite().all()
