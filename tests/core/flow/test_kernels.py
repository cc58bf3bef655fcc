"""One stochastic step of each kernel: its moments, its limits, and the marginals that it keeps.

test_reference.py has numbers of public code for the three.
"""

from typing import get_args

import pytest
import torch

from _flow import SHAPE, randn
from pave_core.config.rollout import Kernel
from pave_core.errors import ConfigError
from pave_core.flow.kernels import transition

KERNELS = get_args(Kernel)
STEP = {"sigma": 0.8, "sigma_next": 0.6, "eta": 0.8, "sigma_ceiling": 0.95}


@pytest.mark.parametrize("kernel", KERNELS)
def test_samples_have_the_mean_and_the_std(kernel):
    p = transition(randn(1, *SHAPE), randn(1, *SHAPE, seed=1), **STEP, kernel=kernel)
    samples = p.sample(randn(200_000, *SHAPE, seed=2))
    torch.testing.assert_close(samples.mean(0, keepdim=True), p.mean, atol=0.01, rtol=0)
    assert samples.std(0).mean().item() == pytest.approx(p.std, rel=0.01)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_noise_the_step_is_the_ode(kernel):
    x, v = randn(1, *SHAPE), randn(1, *SHAPE, seed=1)
    p = transition(x, v, **(STEP | {"eta": 1e-6}), kernel=kernel)
    torch.testing.assert_close(p.mean, x - 0.2 * v)
    assert p.std < 1e-5


class GaussianData:
    """x0 ~ N(mu, c^2): every marginal is a Gaussian, and the exact velocity is affine in x."""

    def __init__(self, mu, c):
        self.mu, self.c = mu, c

    def moments(self, sigma):
        """The mean and the variance of x at sigma."""
        return (1 - sigma) * self.mu, (1 - sigma) ** 2 * self.c**2 + sigma**2

    def velocity(self, x, sigma):
        """E[eps - x0 | x]."""
        mean, variance = self.moments(sigma)
        return -self.mu + (sigma - (1 - sigma) * self.c**2) / variance * (x - mean)

    def after(self, sigmas, kernel):
        """The mean and the variance after steps along `sigmas`: without sampling, as a step is affine in x."""
        mean, variance = self.moments(sigmas[0])
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
            step = {"sigma": sigma, "sigma_next": sigma_next, "eta": 0.8, "sigma_ceiling": 0.99}
            p = transition(x, self.velocity(x, sigma), **step, kernel=kernel)
            at_0, at_1 = p.mean.flatten().tolist()
            mean, variance = at_0 + (at_1 - at_0) * mean, (at_1 - at_0) ** 2 * variance + p.std**2
        return mean, variance


@pytest.mark.parametrize("kernel", ["mar", "dance"])
def test_an_sde_keeps_the_marginals(kernel):
    """The mean exactly, as it moves on a line; the variance with an error of first order."""
    data = GaussianData(mu=0.7, c=0.5)
    mean, variance = data.moments(0.05)
    errors = []
    for steps in (1000, 2000):
        found = data.after([0.95 - 0.9 * i / steps for i in range(steps + 1)], kernel)
        assert found[0] == pytest.approx(mean, rel=1e-9)
        errors.append(abs(found[1] - variance))
    assert errors[1] < 0.02 * variance
    assert errors[1] / errors[0] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("grid", [(1.0, 0.3), (0.9, 0.5, 0.1)], ids=str)
def test_cps_keeps_the_marginals_of_one_image_in_steps_of_any_length(grid):
    data = GaussianData(mu=0.7, c=0.0)
    assert data.after(grid, "cps") == pytest.approx(data.moments(grid[-1]), rel=1e-12)
    assert data.after(grid, "mar") != pytest.approx(data.moments(grid[-1]), rel=1e-2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_maths_is_fp32_whatever_comes_in_or_finer(kernel):
    x, v = randn(1, *SHAPE), randn(1, *SHAPE, seed=1)
    half = transition(x.bfloat16(), v.bfloat16(), **STEP, kernel=kernel).mean
    assert half.dtype == torch.float32
    assert torch.equal(half, transition(x.bfloat16().float(), v.bfloat16().float(), **STEP, kernel=kernel).mean)
    assert transition(x.double(), v.double(), **STEP, kernel=kernel).mean.dtype == torch.float64


@pytest.mark.parametrize("kernel", ["cps", "dance"])
def test_only_mar_needs_a_ceiling(kernel):
    x, v = randn(1, *SHAPE), randn(1, *SHAPE, seed=1)
    low, high = (transition(x, v, **(STEP | {"sigma_ceiling": c}), kernel=kernel) for c in (0.3, 0.99))
    assert torch.equal(low.mean, high.mean)
    assert low.std == high.std


@pytest.mark.parametrize(
    ("kernel", "step", "field"),
    [
        *((kernel, {"sigma": 0.8, "sigma_next": 0.7, "eta": 0.0}, "eta") for kernel in KERNELS),
        ("mar", {"sigma": 0.8, "sigma_next": 0.7, "eta": -0.8}, "eta"),
        ("mar", {"sigma": 0.7, "sigma_next": 0.8, "eta": 0.8}, "sigma"),
        ("mar", {"sigma": 0.7, "sigma_next": 0.7, "eta": 0.8}, "sigma"),
        ("mar", {"sigma": 14.6, "sigma_next": 0.7, "eta": 0.8}, "sigma"),
        ("dance", {"sigma": 0.7, "sigma_next": -0.1, "eta": 0.8}, "sigma"),
        ("cps", {"sigma": 0.8, "sigma_next": 0.7, "eta": 1.01}, "eta"),
        ("cps", {"sigma": 0.3, "sigma_next": 0.0, "eta": 0.8}, "sigma"),
    ],
)
def test_a_step_that_cannot_be_is_refused(kernel, step, field):
    with pytest.raises(ConfigError, match=f"^{field}: "):
        transition(randn(1, *SHAPE), randn(1, *SHAPE), **step, sigma_ceiling=0.9, kernel=kernel)


def test_the_most_noise_of_cps_leaves_nothing_of_the_old():
    x, v = randn(1, *SHAPE, dtype=torch.float64), randn(1, *SHAPE, seed=1, dtype=torch.float64)
    p = transition(x, v, **(STEP | {"eta": 1.0}), kernel="cps")
    torch.testing.assert_close(p.mean, 0.4 * (x - 0.8 * v))
    assert p.std == pytest.approx(0.6)
