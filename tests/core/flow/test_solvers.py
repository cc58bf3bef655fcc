"""The ODE solver, against closed forms."""

import math

import pytest
import torch

from _flow import SHAPE, randn
from pave_core.batches import Batches
from pave_core.flow.solvers import batched_velocity, ode


class Decays:
    """v = x, whose exact solution is x(sigma) = x(1) exp(sigma - 1)."""

    def __init__(self):
        self.batches = []

    def velocity(self, x, sigma, cond):
        assert sigma.shape == (len(x),)
        self.batches.append(len(x))
        return x


def test_euler_is_first_order_and_converges_to_the_exact_solution():
    x = randn(1, *SHAPE)
    exact = x * math.exp(-1)
    errors = []
    for steps in (50, 100):
        sigmas = [1 - i / steps for i in range(steps + 1)]
        found = ode(Decays(), x, cond=None, sigmas=sigmas, batches=Batches(1))
        errors.append((found - exact).norm().item())
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.02)
    assert errors[1] < 0.01 * exact.norm().item()


def test_no_step_is_no_change():
    x = randn(1, *SHAPE)
    assert torch.equal(ode(Decays(), x, cond=None, sigmas=(0.3,), batches=Batches(1)), x)


def test_a_batch_is_cut_into_calls_of_at_most_batch_size():
    policy, x = Decays(), randn(7, *SHAPE)
    assert torch.equal(batched_velocity(policy, x, sigma=0.5, cond=None, batches=Batches(3)), x)
    assert policy.batches == [3, 3, 1]
