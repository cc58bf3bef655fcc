"""The objective of a policy that has moved on from the one that was sampled from, and its divergence from a reference.

Oracles: the definitions by torch.distributions, differentiated through every log-probability.
"""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from _flow import SHAPE, curved_velocity, randn
from pave_core.config.objective import PaveConfig
from pave_core.flow.paving import CoarseStep, paved_transitions
from pave_core.flow.schedule import shifted_sigmas
from pave_core.objective.loss import chain_loss, decomposition_loss
from pave_core.types import Gaussian

STD = 0.3
RATIOS = (0.5, 0.999, 1.0, 1.001, 1.9)
CLIP = 0.01


def elementwise(mean):
    """The density as torch knows it."""
    return Normal(mean, STD)


def ratios(mean, old, y):
    """p(y) / p_old(y) as a geometric mean over elements: log-probabilities are means."""
    log_probs = [elementwise(m).log_prob(y).flatten(1).mean(1) for m in (mean, old)]
    return (log_probs[0] - log_probs[1]).exp()


def situation():
    """(mean, old mean, y, advantages): each of RATIOS with an advantage of either sign and with none.

    y_i lies on the line through both means, where the ratio is wanted: log r = d (2 t - d) / (2 std^2 D), with d the
    distance of the means and t the place on the line, counted from the old one.
    """
    old = randn(1, *SHAPE, dtype=torch.float64)
    along = randn(1, *SHAPE, seed=1, dtype=torch.float64)
    along /= along.norm()
    d = 0.7
    places = [math.log(r) * STD**2 * along.numel() / d + d / 2 for r in RATIOS for _ in range(3)]
    y = torch.cat([old + t * along for t in places])
    return old + d * along, old, y, torch.tensor([1.5, -0.75, 0.0] * len(RATIOS), dtype=torch.float64)


def found_and_defined(config, objective):
    """((loss, gradient), (loss, gradient)) of chain_loss and of `objective`(ratios, advantages, mean, old)."""
    mean, old, y, advantages = situation()
    leaf, defined = mean.clone().requires_grad_(), mean.clone().requires_grad_()
    loss, _ = chain_loss(Gaussian(leaf, STD), y[None], advantages[None], config=config, old=Gaussian(old, STD))
    loss.backward()
    value = -objective(ratios(defined, old, y), advantages, defined, old).mean()
    value.backward()
    return (loss[0].detach(), leaf.grad), (value.detach(), defined.grad)


def test_the_situation_has_both_signs_on_both_sides():
    mean, old, y, _ = situation()
    torch.testing.assert_close(ratios(mean, old, y), torch.tensor(RATIOS).double().repeat_interleave(3))


def test_unclipped_is_the_advantage_times_the_ratio():
    found, defined = found_and_defined(PaveConfig(), lambda r, A, mean, old: A * r)
    torch.testing.assert_close(found, defined)


@pytest.mark.parametrize("clip_range", [1e-4, CLIP, 0.6])
def test_clip_is_ppo_s(clip_range):
    config = PaveConfig(ratio="clip", clip_range=clip_range)
    found, defined = found_and_defined(
        config, lambda r, A, mean, old: torch.minimum(A * r, A * r.clamp(1 - clip_range, 1 + clip_range))
    )
    torch.testing.assert_close(found, defined)
    free, _ = found_and_defined(PaveConfig(), lambda r, A, mean, old: A * r)
    assert not torch.allclose(found[1], free[1])


@pytest.mark.parametrize("above", [True, False])
def test_the_divergence_mask_drops_what_leads_further_away_once_the_policy_is_too_far(above):
    mean, old, _, _ = situation()
    divergence = kl_divergence(elementwise(mean), elementwise(old)).mean().item()
    config = PaveConfig(ratio="divergence mask", max_divergence=divergence * (0.99 if above else 1.01))

    def masked(r, A, mean, old):
        """One image after another."""
        kept = []
        for ratio, advantage in zip(r, A, strict=True):
            further = (advantage > 0 and ratio > 1) or (advantage < 0 and ratio < 1)
            kept.append(0 * ratio if further and above else advantage * ratio)
        return torch.stack(kept)

    found, defined = found_and_defined(config, masked)
    torch.testing.assert_close(found, defined)


def test_what_is_limited_is_counted():
    mean, old, y, advantages = situation()
    p, q = Gaussian(mean, STD), Gaussian(old, STD)

    def limited(**settings):
        _, metrics = chain_loss(p, y[None], advantages[None], config=PaveConfig(**settings), old=q)
        return metrics[0, -1].item() * len(y)

    assert limited() == 0
    # With A > 0 the ratio 1.9, with A < 0 the ratio 0.5; those of 0.999 and 1.001 are inside.
    assert limited(ratio="clip", clip_range=CLIP) == pytest.approx(2)
    assert limited(ratio="clip", clip_range=1e-4) == pytest.approx(4)
    assert limited(ratio="divergence mask", max_divergence=1e-9) >= 4
    assert limited(ratio="divergence mask", max_divergence=1.0) == limited(ratio="clip", clip_range=1.0) == 0


@pytest.mark.parametrize("ratio", ["unclipped", "clip", "divergence mask"])
def test_at_the_policy_that_was_sampled_from_all_are_the_released_loss(ratio):
    mean, _, y, advantages = situation()
    results = []
    for config, old in ((PaveConfig(), None), (PaveConfig(ratio=ratio), Gaussian(mean, STD))):
        leaf = mean.clone().requires_grad_()
        loss, _ = chain_loss(Gaussian(leaf, STD), y[None], advantages[None], config=config, old=old)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_kl_term_is_torch_s_divergence_per_element():
    mean, reference, y, _ = situation()
    beta, p_ref = 0.7, Gaussian(reference, STD)
    leaf, defined = mean.clone().requires_grad_(), mean.clone().requires_grad_()
    y, nothing = y[None], torch.zeros(1, len(y), dtype=torch.float64)
    loss, metrics = chain_loss(Gaussian(leaf, STD), y, nothing, config=PaveConfig(kl_weight=beta), reference=p_ref)
    loss.backward()
    whole = kl_divergence(Independent(elementwise(defined), 3), Independent(elementwise(reference), 3))
    value = beta * whole.squeeze() / reference.numel()
    value.backward()
    torch.testing.assert_close(loss[0], value)
    torch.testing.assert_close(leaf.grad, defined.grad)
    torch.testing.assert_close(metrics[0, 3], (value / beta).detach())


def test_the_kl_term_is_added_to_the_other_and_zero_at_the_reference():
    mean, reference, y, advantages = situation()

    def gradient(kl_weight, reference):
        leaf = mean.clone().requires_grad_()
        p = Gaussian(leaf, STD)
        config, other = PaveConfig(kl_weight=kl_weight), Gaussian(reference, STD)
        loss, _ = chain_loss(p, y[None], advantages[None], config=config, reference=other)
        loss.backward()
        return leaf.grad

    without = gradient(0.0, reference)
    assert torch.equal(gradient(1.0, mean), without)
    torch.testing.assert_close(gradient(2.0, reference) - without, 2 * (gradient(1.0, reference) - without))
    assert not torch.allclose(gradient(1.0, reference), without)


def paved(W, x, segments=(2, 3)):
    """{n: p^(n)} of v = tanh(x W + sigma) on the third step of 8."""
    (transitions,) = paved_transitions(
        curved_velocity(W), [CoarseStep(x, 2, [None])], sigmas=shifted_sigmas(8, 3.0), eta=0.8, segments=segments
    )
    return transitions


@pytest.mark.parametrize("residual", ["noise", "image"])
@pytest.mark.parametrize(("ratio", "limit"), [("unclipped", {}), ("clip", {"clip_range": 1e-3})])
def test_finite_differences_through_the_sub_steps_of_a_policy_that_has_moved(ratio, limit, residual):
    """The value of the loss with three chains, an old policy and a reference; its gradient is that of the value."""
    x, y = randn(1, *SHAPE, dtype=torch.float64), randn(4, *SHAPE, seed=1, dtype=torch.float64)
    advantages = torch.tensor([1.0, -0.5, 0.25, -0.75], dtype=torch.float64)
    W, moved, base = (randn(3, 3, seed=2, dtype=torch.float64) * 0.5 + shift for shift in (0.0, 0.02, -0.05))
    old, reference = paved(W, x), paved(base, x)
    config = PaveConfig(segment_weights=(0.5, 2.0), kl_weight=0.3, ratio=ratio, residual=residual, **limit)

    def value(W):
        """By torch.distributions."""
        terms = {}
        for n, p in paved(W, x).items():
            densities = [Normal(q.mean, q.std) for q in (p, old[n], reference[n])]
            z = y if residual == "image" else y - old[1].mean + old[n].mean
            logs = [density.log_prob(z).flatten(1).mean(1) for density in densities]
            r = (logs[0] - logs[1]).exp()
            f = advantages * r
            if limit:
                f = torch.minimum(f, advantages * r.clamp(1 - limit["clip_range"], 1 + limit["clip_range"]))
            terms[n] = -f.mean() + 0.3 * kl_divergence(densities[0], densities[2]).mean()
        return terms[1] + (0.5 * terms[2] + 2.0 * terms[3]) / 2

    leaf = moved.clone().requires_grad_()
    loss, _ = decomposition_loss(paved(leaf, x), y[None], advantages[None], config=config, old=old, reference=reference)
    loss.backward()
    assert loss.item() == pytest.approx(value(moved).item(), rel=1e-10)
    numeric, h = torch.zeros_like(W), 1e-6
    for i in range(3):
        for j in range(3):
            step = torch.zeros_like(W)
            step[i, j] = h
            numeric[i, j] = (value(moved + step) - value(moved - step)) / (2 * h)
    assert (leaf.grad - numeric).norm() / numeric.norm() < 1e-6


@pytest.mark.parametrize("ratio", ["unclipped", "clip", "divergence mask"])
def test_several_steps_are_those_of_each_alone(ratio):
    """Three policies at 0.3, 1 and 3 times the same distance from the old one: the limits lie between them."""
    mean, old, y, advantages = situation()
    means = torch.cat([old + scale * (mean - old) for scale in (0.3, 1.0, 3.0)])
    divergence = kl_divergence(elementwise(mean), elementwise(old)).mean().item()
    config = PaveConfig(ratio=ratio, clip_range=CLIP, max_divergence=divergence / 2, kl_weight=0.5)

    def of(rows):
        leaf = means[rows].clone().requires_grad_()
        n = len(leaf)
        p, q, r = Gaussian(leaf, STD), Gaussian(old.expand_as(leaf), STD), Gaussian(-old.expand_as(leaf), STD)
        inputs = (p, y.expand(n, *y.shape), advantages.expand(n, -1))
        losses, metrics = chain_loss(*inputs, config=config, old=q, reference=r)
        losses.sum().backward()
        return losses.detach(), leaf.grad, metrics

    together, alone = of(slice(0, 3)), [of(slice(i, i + 1)) for i in range(3)]
    for i in range(3):
        torch.testing.assert_close(together[i], torch.cat([each[i] for each in alone]))
