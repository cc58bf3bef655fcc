"""One stochastic step: its moments, its limits, and the marginals that it keeps."""

import math

import pytest
import torch

from _flow import SHAPE, randn
from pave_core.errors import ConfigError
from pave_core.flow.kernels import transition


def test_samples_have_the_mean_and_the_std():
    p = transition(randn(1, *SHAPE), randn(1, *SHAPE, seed=1), sigma=0.8, sigma_next=0.7, eta=0.8, sigma_ceiling=0.95)
    samples = p.sample(randn(200_000, *SHAPE, seed=2))
    torch.testing.assert_close(samples.mean(0, keepdim=True), p.mean, atol=0.01, rtol=0)
    assert samples.std(0).mean().item() == pytest.approx(p.std, rel=0.01)


def test_without_noise_the_step_is_the_ode():
    x, v = randn(1, *SHAPE), randn(1, *SHAPE, seed=1)
    p = transition(x, v, sigma=0.8, sigma_next=0.6, eta=1e-6, sigma_ceiling=0.95)
    torch.testing.assert_close(p.mean, x - 0.2 * v)
    assert p.std < 1e-5


def test_the_sde_keeps_the_marginals():
    """x0 ~ N(0, c^2): every marginal is Gaussian with variance (1 - sigma)^2 c^2 + sigma^2, and the exact velocity is
    linear in x.
    """
    c = 0.5
    sigmas = [0.95 - 0.9 * i / 400 for i in range(401)]

    def variance(s):
        return (1 - s) ** 2 * c**2 + s**2

    x = randn(20_000, 1) * math.sqrt(variance(sigmas[0]))
    generator = torch.Generator().manual_seed(5)
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        velocity = (s - (1 - s) * c**2) / variance(s) * x
        p = transition(x, velocity, sigma=s, sigma_next=s_next, eta=0.8, sigma_ceiling=0.99)
        x = p.sample(torch.randn(x.shape, generator=generator))
    assert x.var().item() == pytest.approx(variance(sigmas[-1]), rel=0.04)


def test_the_maths_is_fp32_whatever_comes_in():
    x, v = randn(1, *SHAPE), randn(1, *SHAPE, seed=1)
    step = {"sigma": 0.8, "sigma_next": 0.6, "eta": 0.8, "sigma_ceiling": 0.95}
    assert transition(x.bfloat16(), v.bfloat16(), **step).mean.dtype == torch.float32
    exact = transition(x.bfloat16().float(), v.bfloat16().float(), **step)
    assert torch.equal(transition(x.bfloat16(), v.bfloat16(), **step).mean, exact.mean)


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"sigma": 0.8, "sigma_next": 0.7, "eta": 0.0}, "eta"),
        ({"sigma": 0.8, "sigma_next": 0.7, "eta": -0.8}, "eta"),
        ({"sigma": 0.7, "sigma_next": 0.8, "eta": 0.8}, "sigma"),
        ({"sigma": 0.7, "sigma_next": 0.7, "eta": 0.8}, "sigma"),
        ({"sigma": 14.6, "sigma_next": 0.7, "eta": 0.8}, "sigma"),
        ({"sigma": 0.7, "sigma_next": -0.1, "eta": 0.8}, "sigma"),
    ],
)
def test_a_step_that_cannot_be_is_refused(step, field):
    with pytest.raises(ConfigError, match=f"^{field}: "):
        transition(randn(1, *SHAPE), randn(1, *SHAPE), **step, sigma_ceiling=0.9)
