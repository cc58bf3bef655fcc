"""sde.py, pave.py and loss.py against independent oracles."""

import json
import math
import subprocess
import sys

import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.flow.kernels import transition
from pave_core.flow.paving import paved_transitions
from pave_core.flow.schedule import shifted_sigmas
from pave_core.objective.loss import decomposition_loss, policy_gradient_loss, segment_figures
from pave_core.types import Gaussian

SHAPE = (2, 3)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_log_prob_is_torch_normals_up_to_the_normaliser():
    p = Gaussian(randn(1, *SHAPE), 0.37)
    y = randn(5, *SHAPE, seed=1)
    oracle = torch.distributions.Normal(p.mean, p.std)
    expected = oracle.log_prob(y).flatten(1).mean(1) - oracle.log_prob(p.mean).mean()
    torch.testing.assert_close(p.log_prob(y), expected)


def test_samples_have_the_mean_and_the_std():
    p = transition(randn(1, *SHAPE), randn(1, *SHAPE, seed=1), 0.8, 0.7, 0.8, 0.95)
    samples = p.sample(randn(200_000, *SHAPE, seed=2))
    torch.testing.assert_close(samples.mean(0, keepdim=True), p.mean, atol=0.01, rtol=0)
    assert samples.std(0).mean().item() == pytest.approx(p.std, rel=0.01)


def test_without_noise_the_step_is_the_ode():
    x, v = randn(1, *SHAPE), randn(1, *SHAPE, seed=1)
    p = transition(x, v, 0.8, 0.6, 1e-6, 0.95)
    torch.testing.assert_close(p.mean, x - 0.2 * v)
    assert p.std < 1e-5


def test_the_sde_keeps_the_marginals():
    """x0 ~ N(0, c^2): every marginal is Gaussian with variance (1 - sigma)^2 c^2 + sigma^2, and the exact velocity is linear in x."""
    c = 0.5
    sigmas = [0.95 - 0.9 * i / 400 for i in range(401)]

    def variance(s):
        return (1 - s) ** 2 * c**2 + s**2

    x = randn(20_000, 1) * math.sqrt(variance(sigmas[0]))
    generator = torch.Generator().manual_seed(5)
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        velocity = (s - (1 - s) * c**2) / variance(s) * x
        x = transition(x, velocity, s, s_next, 0.8, 0.99).sample(torch.randn(x.shape, generator=generator))
    assert x.var().item() == pytest.approx(variance(sigmas[-1]), rel=0.04)


@pytest.mark.parametrize("sigma_0", [1.0, 0.9997, 0.995])
def test_a_schedule_that_begins_just_below_one_is_not_destroyed(sigma_0):
    sigmas = (sigma_0, *shifted_sigmas(16, 3.0)[1:])
    x = randn(1, *SHAPE)
    p = paved_transitions(lambda x, sigma: torch.zeros_like(x), x, 0, sigmas, 0.8, (2, 3))
    assert all(0.4 < q.std < 0.82 for q in p.values())  # eta, or a little less where the first step is shorter
    assert p[1].mean.norm() < x.norm()


@pytest.mark.parametrize(("arguments", "field"), [((0.8, 0.7, 0.0, 0.9), "eta"), ((0.7, 0.8, 0.8, 0.9), "sigma")])
def test_a_step_that_can_not_be_is_refused(arguments, field):
    with pytest.raises(ConfigError, match=f"^{field}: "):
        transition(randn(1, *SHAPE), randn(1, *SHAPE), *arguments)


def test_p1_is_the_plain_step_whatever_the_segments():
    sigmas, x = shifted_sigmas(8, 3.0), randn(1, *SHAPE)
    velocity = linear_velocity(torch.eye(3) * 0.3)
    plain = paved_transitions(velocity, x, 2, sigmas, 0.8, ())
    paved = paved_transitions(velocity, x, 2, sigmas, 0.8, (2, 5))
    expected = transition(x, velocity(x, torch.tensor([sigmas[2]])), sigmas[2], sigmas[3], 0.8, sigmas[1])
    assert list(plain) == [1]
    assert torch.equal(plain[1].mean, expected.mean)
    assert torch.equal(paved[1].mean, expected.mean)
    assert plain[1].std == paved[1].std == expected.std


def linear_velocity(W):
    return lambda x, sigma: x @ W + sigma.view(-1, 1, 1)


def test_a_chain_is_euler_steps_and_then_the_transition():
    """Written out by hand for n = 3."""
    sigmas, x, W = shifted_sigmas(8, 3.0), randn(1, *SHAPE), randn(3, 3, seed=4)
    velocity = linear_velocity(W)
    k, dt = 3, (sigmas[4] - sigmas[3]) / 3
    at = [sigmas[3], sigmas[3] + dt, sigmas[3] + 2 * dt]
    x1 = x + dt * velocity(x, torch.tensor(at[:1]))
    x2 = x1 + dt * velocity(x1, torch.tensor(at[1:2]))
    expected = transition(x2, velocity(x2, torch.tensor(at[2:])), at[2], sigmas[4], 0.8, sigmas[1])
    found = paved_transitions(velocity, x, k, sigmas, 0.8, (3,))[3]
    torch.testing.assert_close(found.mean, expected.mean)
    assert found.std == pytest.approx(expected.std)


def test_network_calls_are_max_s_and_evaluations_one_plus_sum():
    batches = []

    def velocity(x, sigma):
        assert sigma.shape == (len(x),)
        batches.append(len(x))
        return x * 0.1

    paved_transitions(velocity, randn(1, *SHAPE), 1, shifted_sigmas(8, 3.0), 0.8, (2, 3, 5))
    assert len(batches) == 5
    assert sum(batches) == 1 + 1 + 2 + 4


def test_the_gradient_is_that_of_finite_differences_through_the_sub_steps():
    sigmas, x = shifted_sigmas(8, 3.0), randn(1, *SHAPE, dtype=torch.float64)
    y = randn(4, *SHAPE, seed=1)
    advantages = torch.tensor([1.0, -0.5, 0.25, -0.75])
    W = randn(3, 3, seed=2, dtype=torch.float64) * 0.5

    def surrogate(W):
        """Sum over chains of mean_i A_i log p(y_i), computed with torch's Normal: its gradient is minus the loss's."""
        p = paved_transitions(lambda x, s: torch.tanh(x @ W + s.view(-1, 1, 1)), x, 2, sigmas, 0.8, (2, 3))
        terms = {n: (advantages * torch.distributions.Normal(q.mean, q.std).log_prob(y).flatten(1).mean(1)).mean() for n, q in p.items()}
        return terms[1] + (terms[2] + terms[3]) / 2

    leaf = W.clone().requires_grad_()
    decomposition_loss(paved_transitions(lambda x, s: torch.tanh(x @ leaf + s.view(-1, 1, 1)), x, 2, sigmas, 0.8, (2, 3)), y, advantages).backward()
    assert leaf.grad is not None
    numeric, h = torch.zeros_like(W), 1e-2  # the solver's fp32 noise against the h^2 of the difference
    for i in range(3):
        for j in range(3):
            step = torch.zeros_like(W)
            step[i, j] = h
            numeric[i, j] = -(surrogate(W + step) - surrogate(W - step)) / (2 * h)
    assert (leaf.grad - numeric).norm() / numeric.norm() < 2e-3


def test_the_mean_carries_the_whole_gradient():
    """d L / d mean = -(1/G) sum_i A_i (y_i - mean) / (std^2 D)."""
    mean = randn(1, *SHAPE, dtype=torch.float32).requires_grad_()
    y, advantages = randn(6, *SHAPE, seed=1), randn(6, seed=2)
    policy_gradient_loss(Gaussian(mean, 0.3), y, advantages).backward()
    expected = -(advantages.view(-1, 1, 1) * (y - mean.detach())).mean(0, keepdim=True) / (0.3**2 * mean.numel())
    torch.testing.assert_close(mean.grad, expected)


def test_the_push_of_a_chain_is_the_length_of_its_mean_s_gradient():
    mean = randn(1, *SHAPE, dtype=torch.float32).requires_grad_()
    p, y, advantages = Gaussian(mean, 0.3), randn(6, *SHAPE, seed=1), randn(6, seed=2)
    policy_gradient_loss(p, y, advantages).backward()
    log_prob, std, push = segment_figures(p, y, advantages)
    torch.testing.assert_close(push, mean.grad.norm())
    torch.testing.assert_close(log_prob, p.log_prob(y).mean().detach())
    assert std == pytest.approx(0.3)


def test_the_weights_of_the_terms():
    W, x, y, advantages = randn(3, 3) * 0.5, randn(1, *SHAPE), randn(4, *SHAPE, seed=1), randn(4, seed=2)

    def gradient(weights):
        leaf = W.clone().requires_grad_()
        p = paved_transitions(linear_velocity(leaf), x, 1, shifted_sigmas(8, 3.0), 0.8, (2, 3))
        decomposition_loss(p, y, advantages, weights).backward()
        return leaf.grad

    assert torch.equal(gradient(None), gradient({1: 1.0, 2: 1.0, 3: 1.0}))
    parts = [gradient({n: float(n == m) for n in (1, 2, 3)}) for m in (1, 2, 3)]
    torch.testing.assert_close(gradient({1: 0.5, 2: 2.0, 3: 0.25}), 0.5 * parts[0] + 2 * parts[1] + 0.25 * parts[2])


def test_equal_rewards_give_no_gradient():
    W = randn(3, 3).requires_grad_()
    p = paved_transitions(linear_velocity(W), randn(1, *SHAPE), 1, shifted_sigmas(8, 3.0), 0.8, (2, 3))
    decomposition_loss(p, randn(4, *SHAPE), torch.zeros(4)).backward()
    assert torch.equal(W.grad, torch.zeros(3, 3))


def test_the_authors_numbers(root):
    found = subprocess.run(
        [sys.executable, root / "tools/check_reference.py", root / "tests/data/paved_reference.json"], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("case ") == 5


def test_the_check_can_fail(root, tmp_path):
    reference = json.loads((root / "tests/data/paved_reference.json").read_text())
    reference["cases"][1]["grad_W"][0][0] *= 1.01
    (tmp_path / "wrong.json").write_text(json.dumps(reference))
    found = subprocess.run([sys.executable, root / "tools/check_reference.py", tmp_path / "wrong.json"], capture_output=True, text=True)
    assert found.returncode == 1
    assert "ABOVE" in found.stdout
