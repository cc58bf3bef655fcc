"""The optimizer steps of a training step, against plain gradient descent on a loss written out (see _by_hand.py)."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from _by_hand import descend, loss_by_hand, scored, z_scores
from _toy import ToyTraining, same, toy_config, weights
from pave_core.config.objective import PaveConfig
from pave_core.training.step import TrainingStep

STEEP = {"plain_weight": 3.0, "segment_weights": (3.0, 3.0)}
"""At rate 1 a step so long that the ratios of a second one are well away from 1."""
LIMITS = {
    "unclipped": {},
    "clip": {"ratio": "clip", "clip_range": 1e-3},
    "divergence mask": {"ratio": "divergence mask", "max_divergence": 1e-6},
}


def config_of(pave=None, **rollout):
    """A training step of plain gradient descent at rate 1."""
    base = toy_config(iterations=1, **rollout)
    plain = {"optimizer": "SGD", "betas": (0.0, 0.999), "weight_decay": 0.0, "max_grad_norm": 1000.0}
    return replace(base, optim=replace(base.optim, learning_rate=1.0, **plain), pave=PaveConfig(**pave or {}))


def rollouts_of(run):
    """The rollouts of the step that `run` is about to make."""
    return TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state).sample()


def compared(config, updates=1, advantages_of=z_scores):
    """(the weights after a training step, those after `updates` steps by hand, the record, the fresh weights)."""
    run, hand = ToyTraining(config), ToyTraining(config)
    fresh = weights(run.policy)
    (metrics,) = run.stream()
    rollouts = rollouts_of(hand)
    advantages = [
        torch.stack([sum(advantages_of(rewards[m, f]) for m in range(len(rewards))) for f in range(rewards.shape[1])])
        for rewards in scored(hand, rollouts)
    ]
    old = None
    for _ in range(updates):
        loss, logs = loss_by_hand(hand, rollouts, advantages, old)
        old = old or logs
        descend(hand, loss)
    assert run.state.updates == updates
    assert metrics.loss == pytest.approx(loss.item(), rel=1e-3, abs=1e-5), "the record has the last update's loss"
    return weights(run.policy), weights(hand.policy), metrics, fresh


def assert_same_change(found, expected, fresh, rtol=1e-3):
    """The weights have moved alike, relative to how far they have moved."""
    flat = [torch.cat([w.flatten() for w in each.values()]) for each in (found, expected, fresh)]
    moved = (flat[1] - flat[2]).norm()
    assert moved > 1e-3
    assert (flat[0] - flat[1]).norm() < rtol * moved


@pytest.mark.parametrize(
    ("pave", "rollout"),
    [
        ({}, {}),
        ({"segments": ()}, {}),
        ({"segments": (2,), "segment_weights": (3.0,), "plain_weight": 0.5}, {}),
        ({"step_weights": (0.5, 2.0)}, {}),
        ({"step_weights": (0.0, 2.0)}, {"exploration": "trajectories"}),
        ({"variance": "matched"}, {"exploration": "trajectories"}),
        ({"variance": "span"}, {"exploration": "trajectories, one noise"}),
        ({"residual": "image"}, {"exploration": "trajectories"}),
        ({"residual": "image", "variance": "matched"}, {"exploration": "trajectories, one noise"}),
        ({}, {"kernel": "cps"}),
        ({}, {"kernel": "dance"}),
        ({}, {"tail_solver": "multistep", "tail_steps": 3}),
        ({}, {"coarser_tails": (2,)}),
        ({}, {"coarser_tails": (2, 3), "exploration": "trajectories"}),
    ],
    ids=str,
)
def test_one_update_is_a_descent_on_the_loss_image_by_image(pave, rollout):
    found, expected, _, fresh = compared(config_of(pave, **rollout))
    assert_same_change(found, expected, fresh)


@pytest.mark.parametrize(("exploration", "updates"), [("branches", 2), ("branches", 3), ("trajectories", 3)])
@pytest.mark.parametrize("ratio", LIMITS)
@pytest.mark.parametrize("residual", ["image", "noise"])
def test_more_updates_weigh_images_by_the_ratio_to_the_first(exploration, updates, ratio, residual):
    pave = {"updates_per_rollout": updates, "residual": residual, **STEEP, **LIMITS[ratio]}
    config = config_of(pave, exploration=exploration)
    found, expected, metrics, fresh = compared(config, updates)
    assert_same_change(found, expected, fresh)
    limited = [metrics.segments[n].limited for n in (1, 2, 3)]
    assert limited == [0, 0, 0] if ratio == "unclipped" else max(limited) > 0


def test_the_limits_matter():
    moved = []
    for limit in LIMITS.values():
        run = ToyTraining(config_of({"updates_per_rollout": 3, **STEEP, **limit}))
        list(run.stream())
        moved.append(weights(run.policy))
    assert not any(same(a, b) for a, b in combinations(moved, 2))


@pytest.mark.parametrize("ratio", ["clip", "divergence mask"])
def test_within_its_limit_a_limited_ratio_changes_nothing(ratio):
    limits = {"clip": {"clip_range": 1.0}, "divergence mask": {"max_divergence": 1.0}}[ratio]
    runs = [
        ToyTraining(config_of({"updates_per_rollout": 2, **settings})) for settings in ({}, {"ratio": ratio, **limits})
    ]
    records = [next(run.stream()) for run in runs]
    assert same(*(weights(run.policy) for run in runs))
    assert records[0].segments == records[1].segments


@pytest.mark.parametrize("exploration", ["branches", "trajectories, one noise"])
def test_the_divergence_from_the_base_is_part_of_every_update(exploration):
    """In the first the policy is the base, as the adapter is fresh; in the second and third it is not."""
    pave = {"kl_weight": 50.0, "updates_per_rollout": 3}
    found, expected, metrics, fresh = compared(config_of(pave, exploration=exploration), 3)
    assert_same_change(found, expected, fresh)
    assert all(metrics.segments[n].kl > 0 for n in (1, 2, 3))
    without = ToyTraining(config_of({"updates_per_rollout": 3}, exploration=exploration))
    (metrics,) = without.stream()
    assert not same(weights(without.policy), found)
    assert all(metrics.segments[n].kl == 0 for n in (1, 2, 3))


@pytest.mark.parametrize(("kl_weight", "updates", "references"), [(0.0, 2, 0), (0.1, 1, 3), (0.1, 3, 3)])
def test_the_base_is_called_once_a_rollout_and_only_where_it_is_needed(kl_weight, updates, references):
    """Once is max(S) = 3 calls; an update is 3 more."""
    run = ToyTraining(config_of({"kl_weight": kl_weight, "updates_per_rollout": updates}))
    calls = {"base": 0, "update": 0}
    velocity, reference = run.policy.velocity, run.policy.reference

    def watched(*inputs):
        calls["update"] += torch.is_grad_enabled()
        return velocity(*inputs)

    @contextmanager
    def counted():
        before = run.policy.calls
        with reference():
            yield
        calls["base"] += run.policy.calls - before

    run.policy.velocity, run.policy.reference = watched, counted
    list(run.stream())
    assert calls == {"base": references, "update": 3 * updates}


def test_a_kl_weight_holds_the_policy_near_the_base():
    divergence = {}
    for kl_weight in (0.0, 30.0):
        base = toy_config(iterations=12)
        run = ToyTraining(replace(base, pave=replace(base.pave, kl_weight=kl_weight)))
        list(run.stream())
        moved = run.policy.velocity(torch.ones(1, 3, 4, 4), torch.tensor([0.5]), [run.conds["a cat"]])
        with run.policy.reference():
            still = run.policy.velocity(torch.ones(1, 3, 4, 4), torch.tensor([0.5]), [run.conds["a cat"]])
        divergence[kl_weight] = (moved - still).square().mean().item()
    assert divergence[30.0] < 0.5 * divergence[0.0]


@pytest.mark.parametrize("at", ["second update", "third update"])
def test_an_error_in_a_later_update_leaves_the_last_complete_step(at):
    base = toy_config(iterations=3)
    config = replace(base, pave=PaveConfig(updates_per_rollout=3), optim=replace(base.optim, ema_decay=0.9))
    reference = ToyTraining(replace(config, run=replace(config.run, iterations=1)))
    list(reference.stream())
    run = ToyTraining(config)
    stream = run.stream()
    next(stream)
    velocity, calls = run.policy.velocity, []

    def breaks(*inputs):
        calls.append(torch.is_grad_enabled())
        if sum(calls) == {"second update": 4, "third update": 9}[at]:
            raise KeyboardInterrupt
        return velocity(*inputs)

    run.policy.velocity = breaks
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert run.state.updates == 3
    found, expected = run.state.capture({}), reference.state.capture({})
    assert (found.step, found.counters) == (1, expected.counters)
    for name in ("adapter", "average", "optimizer"):
        assert same(getattr(found, name), getattr(expected, name))
    assert all(p.grad is None for p in run.policy.parameters().values())


def test_a_second_update_that_is_not_finite_is_left_out():
    run = ToyTraining(config_of({"updates_per_rollout": 3}))
    once = ToyTraining(config_of({}))
    list(once.stream())
    velocity, calls = run.policy.velocity, []

    def breaks(*inputs):
        calls.append(torch.is_grad_enabled())
        return velocity(*inputs) * (float("nan") if sum(calls) > 3 else 1.0)

    run.policy.velocity = breaks
    (metrics,) = run.stream()
    assert metrics.skipped
    assert run.state.updates == 1
    assert sum(calls) == 6, "a third was tried"
    assert same(weights(run.policy), weights(once.policy))
