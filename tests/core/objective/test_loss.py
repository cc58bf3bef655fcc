"""The objective in a rollout's first update, against torch's Normal, finite differences and gradients written out.

What limits the ratio in later updates, and the divergence from the reference, are in test_ratio.py.
"""

import pytest
import torch

from _flow import SHAPE, curved_velocity, linear_velocity, randn
from pave_core.config.objective import PaveConfig
from pave_core.flow.paving import CoarseStep, paved_transitions
from pave_core.flow.schedule import shifted_sigmas
from pave_core.objective.loss import chain_loss, decomposition_loss
from pave_core.types import Gaussian

RELEASED = PaveConfig()


def paved(velocity, x, k):
    """{1, 2, 3: p^(n)} on the grid of 8 steps."""
    (transitions,) = paved_transitions(
        velocity, [CoarseStep(x, k, [None] * len(x))], sigmas=shifted_sigmas(8, 3.0), eta=0.8, segments=(2, 3)
    )
    return transitions


def test_the_gradient_is_that_of_finite_differences_through_the_sub_steps():
    x = randn(1, *SHAPE, dtype=torch.float64)
    y = randn(1, 4, *SHAPE, seed=1)
    advantages = torch.tensor([[1.0, -0.5, 0.25, -0.75]])
    W = randn(3, 3, seed=2, dtype=torch.float64) * 0.5

    def surrogate(W):
        """Sum over chains of mean_i A_i log p(y_i), computed with torch's Normal: its gradient is minus the loss's."""
        terms = {}
        for n, q in paved(curved_velocity(W), x, 2).items():
            log_prob = torch.distributions.Normal(q.mean, q.std).log_prob(y[0]).flatten(1).mean(1)
            terms[n] = (advantages[0] * log_prob).mean()
        return terms[1] + (terms[2] + terms[3]) / 2

    leaf = W.clone().requires_grad_()
    decomposition_loss(paved(curved_velocity(leaf), x, 2), y, advantages, config=RELEASED)[0].backward()
    assert leaf.grad is not None
    numeric, h = torch.zeros_like(W), 1e-5
    for i in range(3):
        for j in range(3):
            step = torch.zeros_like(W)
            step[i, j] = h
            numeric[i, j] = -(surrogate(W + step) - surrogate(W - step)) / (2 * h)
    assert (leaf.grad - numeric).norm() / numeric.norm() < 1e-7


def test_the_mean_carries_the_whole_gradient():
    """Against L_n as it is defined: - mean_i A_i exp(log p(y_i) - log p(y_i).detach())."""
    y, advantages = randn(1, 6, *SHAPE, seed=1), randn(1, 6, seed=2)
    mean, defined = (randn(1, *SHAPE, dtype=torch.float64).requires_grad_() for _ in range(2))
    loss, _ = chain_loss(Gaussian(mean, 0.3), y, advantages, config=RELEASED)
    loss.backward()
    log_prob = Gaussian(defined, 0.3).log_prob(y[0])
    value = -(advantages[0] * torch.exp(log_prob - log_prob.detach())).mean()
    value.backward()
    assert loss.item() == pytest.approx(value.item())
    torch.testing.assert_close(mean.grad, defined.grad, rtol=1e-12, atol=0)


def test_what_the_backward_pass_keeps_does_not_depend_on_the_group():
    """The bytes that autograd saves, for groups of 2, 12 and 48."""

    def saved(G):
        found = []
        mean = randn(1, *SHAPE, dtype=torch.float32).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(t.nbytes) or t, lambda t: t):
            chain_loss(Gaussian(mean * 1.0, 0.3), randn(1, G, *SHAPE, seed=1), randn(1, G, seed=2), config=RELEASED)
        return sum(found)

    assert saved(2) == saved(12) == saved(48) > 0


def test_the_push_of_a_chain_is_the_length_of_its_mean_s_gradient():
    mean = randn(1, *SHAPE, dtype=torch.float32).requires_grad_()
    p, y, advantages = Gaussian(mean, 0.3), randn(1, 6, *SHAPE, seed=1), randn(1, 6, seed=2)
    loss, ((log_prob, std, push, kl, limited),) = chain_loss(p, y, advantages, config=RELEASED)
    loss.backward()
    torch.testing.assert_close(push, mean.grad.norm())
    torch.testing.assert_close(log_prob, p.log_prob(y[0]).mean().detach())
    assert std == pytest.approx(0.3)
    assert (kl, limited) == (0, 0)


def test_the_weights_of_the_terms():
    W, x = randn(3, 3) * 0.5, randn(1, *SHAPE)
    y, advantages = randn(1, 4, *SHAPE, seed=1), randn(1, 4, seed=2)

    def gradient(*weights):
        leaf = W.clone().requires_grad_()
        config = PaveConfig(plain_weight=weights[0], segment_weights=weights[1:]) if weights else RELEASED
        decomposition_loss(paved(linear_velocity(leaf), x, 1), y, advantages, config=config)[0].backward()
        return leaf.grad

    assert torch.equal(gradient(), gradient(1.0, 1.0, 1.0))
    parts = [gradient(*(float(n == m) for n in (1, 2, 3))) for m in (1, 2, 3)]
    torch.testing.assert_close(gradient(0.5, 2.0, 0.25), 0.5 * parts[0] + 2 * parts[1] + 0.25 * parts[2])


def test_equal_rewards_give_no_gradient():
    W = randn(3, 3).requires_grad_()
    p = paved(linear_velocity(W), randn(1, *SHAPE), 1)
    decomposition_loss(p, randn(1, 4, *SHAPE), torch.zeros(1, 4), config=RELEASED)[0].backward()
    assert torch.equal(W.grad, torch.zeros(3, 3))


def test_the_losses_of_several_steps_are_those_of_each_alone():
    W, x = randn(3, 3).requires_grad_(), randn(3, *SHAPE)
    y, advantages = randn(3, 4, *SHAPE, seed=1), randn(3, 4, seed=2)

    def of(rows):
        p = paved(curved_velocity(W), x[rows], 2)
        losses, metrics = decomposition_loss(p, y[rows], advantages[rows], config=RELEASED)
        return losses, torch.autograd.grad(losses.sum(), W)[0], metrics

    together, alone = of(slice(0, 3)), [of(slice(i, i + 1)) for i in range(3)]
    torch.testing.assert_close(together[0], torch.cat([losses for losses, _, _ in alone]))
    torch.testing.assert_close(together[1], sum(gradient for _, gradient, _ in alone))
    torch.testing.assert_close(together[2], torch.cat([metrics for *_, metrics in alone]))
