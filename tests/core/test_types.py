"""The Gaussian of a stochastic step, against torch's Normal."""

import pytest
import torch

from _flow import SHAPE, randn
from pave_core.types import Gaussian


def test_log_prob_is_torch_normals_up_to_the_normaliser():
    p = Gaussian(randn(1, *SHAPE), 0.37)
    y = randn(5, *SHAPE, seed=1)
    oracle = torch.distributions.Normal(p.mean, p.std)
    expected = oracle.log_prob(y).flatten(1).mean(1) - oracle.log_prob(p.mean).mean()
    torch.testing.assert_close(p.log_prob(y), expected)


def test_a_sample_of_no_noise_is_the_mean_and_one_mean_serves_many_samples():
    p = Gaussian(randn(1, *SHAPE), 0.37)
    assert torch.equal(p.sample(torch.zeros(4, *SHAPE)), p.mean.expand(4, *SHAPE))


def test_log_prob_is_highest_at_the_mean():
    p = Gaussian(randn(1, *SHAPE), 0.37)
    assert p.log_prob(p.mean).item() == 0
    assert p.log_prob(p.sample(randn(5, *SHAPE, seed=1))).max() < 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_samples_of_another_dtype_are_scored_in_that_of_the_mean(dtype):
    p = Gaussian(randn(1, *SHAPE), 0.37)
    assert p.log_prob(randn(5, *SHAPE, seed=1).to(dtype)).dtype == torch.float32
