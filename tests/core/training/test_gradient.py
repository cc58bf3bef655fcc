"""The gradient of a step whatever fits into memory, and in fp16, whose range is small."""

import math
from dataclasses import replace

import pytest
import torch

import pave_core.training.gradient as gradient_module
from _toy import ToyTraining, same, toy_config, weights
from pave_core.config.objective import PaveConfig
from pave_core.rollout.run_batches import RunBatches
from pave_core.training.step import TrainingStep

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def config_of(exploration="branches", branch_steps=(0, 1, 2), **pave):
    config = toy_config(exploration=exploration, branch_steps=branch_steps)
    return replace(config, pave=PaveConfig(**pave), run=replace(config.run, prompts_per_step=3))


class Accumulated:
    """A run in the middle of its first step: a gradient in its parameters, of an adapter that is not fresh.

    limit: how many items a network call with gradient takes. size: of the update's batch, at first.
    """

    def __init__(self, config, limit=10**6, size=10**6):
        self.run = run = ToyTraining(config)
        with torch.no_grad():
            for p in run.policy.parameters().values():
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.3)
        self.batches, self.calls = RunBatches.of(config.rollout), []
        self.batches.update.size = size
        velocity = run.policy.velocity

        def limited(x, sigma, conds):
            if torch.is_grad_enabled():
                self.calls.append(len(x))
                if len(x) > limit:
                    raise OUT_OF_MEMORY
            return velocity(x, sigma, conds)

        run.policy.velocity = limited
        self.step = TrainingStep(
            run.policy, run.decoder, conds=run.conds, config=config, state=run.state, batches=self.batches
        )
        rollouts = self.step.sample()
        images, _ = self.step.decode(rollouts)
        scores = self.step.score(run.reward, images, self.step.texts(rollouts))
        self.step.accumulate(rollouts, self.step.advantages(scores, rollouts))

    @property
    def gradient(self):
        return torch.cat([p.grad.flatten() for p in self.run.policy.parameters().values()])


def assert_the_same(found, expected):
    """Within rounding, relative to the gradient's length."""
    assert (found.gradient - expected.gradient).norm() < 1e-5 * expected.gradient.norm()
    assert found.step.loss() == pytest.approx(expected.step.loss(), rel=1e-4, abs=1e-7)
    for n, metrics in expected.step.segments().items():
        assert found.step.segments()[n] == pytest.approx(metrics, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("exploration", ["branches", "trajectories"])
@pytest.mark.parametrize("limit", [2, 5, 13])
def test_memory_that_runs_out_in_the_update_changes_nothing(exploration, limit):
    """9 branch steps, or 36 trajectory steps, each with at most 2 items in a call."""
    config = config_of(exploration)
    found, whole = Accumulated(config, limit), Accumulated(config)
    assert len(whole.calls) == 3
    assert max(found.calls) > limit
    assert_the_same(found, whole)


@pytest.mark.parametrize("size", [10**6, 8, 5])
def test_no_kl_term_is_lost_where_memory_runs_out(size):
    """The references of a part are known when its gradient does not fit, and the next parts have other borders."""
    config = config_of(kl_weight=20.0)
    found, whole, without = Accumulated(config, 5, size), Accumulated(config), Accumulated(config_of())
    assert_the_same(found, whole)
    assert (without.gradient - whole.gradient).norm() > 0.1 * whole.gradient.norm()


def test_memory_that_runs_out_after_the_gradient_adds_it_once(monkeypatch):
    config, calls, keep_old = config_of(updates_per_rollout=2), [], gradient_module._Together.keep_old

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OUT_OF_MEMORY
        return keep_old(*arguments)

    whole = Accumulated(config)
    monkeypatch.setattr(gradient_module._Together, "keep_old", breaks)
    found = Accumulated(config)
    assert_the_same(found, whole)
    assert found.batches.update.size == 4


def test_memory_that_runs_out_in_the_second_update_changes_nothing():
    config = config_of(updates_per_rollout=2)
    runs = []
    for limit in (None, 5):
        run, calls = ToyTraining(replace(config, run=replace(config.run, iterations=1))), []
        velocity = run.policy.velocity

        def limited(x, sigma, conds, velocity=velocity, calls=calls, limit=limit):
            calls.append(torch.is_grad_enabled())
            if limit and torch.is_grad_enabled() and sum(calls) > 3 and len(x) > limit:
                raise OUT_OF_MEMORY
            return velocity(x, sigma, conds)

        run.policy.velocity = limited
        list(run.stream())
        runs.append(run)
    assert runs[1].state.updates == 2
    for name, value in weights(runs[0].policy).items():
        torch.testing.assert_close(weights(runs[1].policy)[name], value, rtol=1e-4, atol=1e-6)


class Fp16(torch.autograd.Function):
    """The identity, whose gradient passes through fp16 as in a network that computes in it."""

    @staticmethod
    def forward(ctx, v):
        return v.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().float()


def in_fp16(run, loss_scale):
    """Let gradients pass through fp16 at the network's output; returns the list of calls with gradient."""
    velocity, calls = run.policy.velocity, []

    def half(*inputs):
        v = velocity(*inputs)
        if torch.is_grad_enabled():
            calls.append(len(v))
        return Fp16.apply(v)

    run.policy.velocity, run.policy.loss_scale = half, loss_scale
    return calls


def trained(loss_scale=None):
    """(a run of three steps of plain gradient descent, its calls with gradient, its records)."""
    base = toy_config(iterations=3)
    plain = {"optimizer": "SGD", "betas": (0.0, 0.999), "weight_decay": 0.0, "max_grad_norm": 1000.0}
    run = ToyTraining(replace(base, optim=replace(base.optim, learning_rate=1e-3, **plain)))
    run.fresh = weights(run.policy)
    calls = in_fp16(run, loss_scale) if loss_scale else []
    return run, calls, list(run.stream())


def change(run):
    """How far the weights have come."""
    return torch.cat([(value - run.fresh[name]).flatten() for name, value in weights(run.policy).items()])


def test_a_loss_scale_that_overflows_is_halved_for_good_and_the_gradient_computed_again():
    exact, _, _ = trained()
    run, calls, records = trained(2.0**30)
    halvings = run.state.scale_halvings
    assert halvings > 2
    assert not any(record.skipped for record in records)
    assert [record.loss for record in records] == pytest.approx([m.loss for m in records])
    assert (change(run) - change(exact)).norm() < 2e-3 * change(exact).norm()
    # Three steps of three calls, and three more for each halving.
    assert len(calls) == 3 * 3 + 3 * halvings
    assert run.state.capture({}).counters["scale_halvings"] == halvings


def test_a_loss_scale_that_fits_is_not_halved_and_changes_nothing_but_rounding():
    exact, _, _ = trained()
    run, calls, _ = trained(2.0**10)
    assert run.state.scale_halvings == 0
    assert len(calls) == 9
    assert (change(run) - change(exact)).norm() < 2e-3 * change(exact).norm()


def test_the_gradient_norm_in_the_record_is_not_scaled():
    norms = [[m.grad_norm for m in trained(scale)[2]] for scale in (None, 2.0**10)]
    assert norms[1] == pytest.approx(norms[0], rel=2e-3)


def test_a_loss_that_is_not_finite_halves_nothing():
    run = ToyTraining(toy_config(iterations=1))
    in_fp16(run, 2.0**10)
    velocity = run.policy.velocity
    run.policy.velocity = lambda *inputs: velocity(*inputs) * (math.nan if torch.is_grad_enabled() else 1.0)
    before = weights(run.policy)
    (metrics,) = run.stream()
    assert metrics.skipped
    assert run.state.scale_halvings == 0
    assert same(weights(run.policy), before)


def test_a_scale_of_one_is_the_end():
    """A gradient that overflows without a scale too: a skipped step, not a loop without end."""
    run = ToyTraining(toy_config(iterations=1))
    run.policy.loss_scale = 4.0
    velocity = run.policy.velocity
    run.policy.velocity = lambda *inputs: Overflows.apply(velocity(*inputs))
    (metrics,) = run.stream()
    assert metrics.skipped
    assert run.state.scale_halvings == 2


class Overflows(torch.autograd.Function):
    """The identity, with a gradient that is always infinite."""

    @staticmethod
    def forward(ctx, v):
        return v.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf
