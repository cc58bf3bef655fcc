"""The ODE solvers, against closed forms."""

import math

import pytest
import torch

from _flow import SHAPE, randn
from pave_core.batches import Batches
from pave_core.errors import ConfigError
from pave_core.flow.schedule import check_sigmas, shifted_sigmas
from pave_core.flow.solvers import euler, multistep, ode, tail_sigmas


class Decays:
    """v = x, whose exact solution is x(sigma) = x(1) exp(sigma - 1)."""

    def __init__(self):
        self.batches = []

    def velocity(self, x, sigma, conds):
        assert sigma.shape == (len(x),)
        assert len(conds) == len(x)
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


def error(steps, order):
    """|x(0) - 1| for dx/dsigma = -2 sigma x^2 from x(1) = 1/2 on a shifted grid: the solution is 1 / (1 + sigma^2)."""
    x, sigmas = torch.tensor([[0.5]], dtype=torch.float64), shifted_sigmas(steps, 3.0)
    before = {}
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        v = -2 * sigma * x**2
        if order == 1:
            x = euler(x, v, sigma=sigma, sigma_next=sigma_next)
        else:
            x = multistep(x, v, sigma=sigma, sigma_next=sigma_next, **before)
            before = {"v_before": v, "sigma_before": sigma}
    return abs(x.item() - 1)


@pytest.mark.parametrize("order", [1, 2])
def test_the_error_falls_with_the_order_on_steps_of_any_length(order):
    errors = [error(steps, order) for steps in (100, 200, 400)]
    slopes = [math.log2(coarse / fine) for coarse, fine in zip(errors, errors[1:], strict=False)]
    assert slopes == pytest.approx([order, order], abs=0.1)
    assert error(100, 2) < error(100, 1) / 3


def test_multistep_is_exact_where_the_velocity_is_linear_in_sigma():
    """v = 3 + 4 sigma, with steps of different lengths: x moves by the integral, 3 sigma + 2 sigma^2."""
    x = randn(2, *SHAPE)
    v_before, v = (torch.full_like(x, 3 + 4 * sigma) for sigma in (0.9, 0.7))
    found = multistep(x, v, sigma=0.7, sigma_next=0.2, v_before=v_before, sigma_before=0.9)
    torch.testing.assert_close(found, x + (3 * 0.2 + 2 * 0.2**2) - (3 * 0.7 + 2 * 0.7**2))


def test_the_first_step_of_multistep_is_eulers_and_a_steady_velocity_needs_no_more():
    x, v = randn(2, *SHAPE), randn(2, *SHAPE, seed=1)
    first = multistep(x, v, sigma=0.7, sigma_next=0.2)
    assert torch.equal(first, euler(x, v, sigma=0.7, sigma_next=0.2))
    torch.testing.assert_close(first, x - 0.5 * v)
    assert torch.equal(multistep(x, v, sigma=0.7, sigma_next=0.2, v_before=v, sigma_before=0.9), first)


@pytest.mark.parametrize("k", [0, 1, 4, 7])
def test_a_tail_of_the_remaining_steps_is_the_rest_of_the_schedule(k):
    sigmas = shifted_sigmas(8, 3.0)
    assert tail_sigmas(sigmas, k, 8 - k) == sigmas[k:]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 6, 64])
def test_a_tail_of_any_length_falls_from_its_start_to_zero(steps):
    sigmas = shifted_sigmas(8, 3.0)
    tail = tail_sigmas(sigmas, 3, steps)
    assert check_sigmas(tail, steps) == tail
    assert tail[0] == sigmas[3]


def test_fewer_and_more_steps_lie_among_the_schedules():
    sigmas = (1.0, 0.9, 0.7, 0.4, 0.0)
    assert tail_sigmas(sigmas, 0, 2) == (1.0, 0.7, 0.0)
    assert tail_sigmas(sigmas, 2, 1) == (0.7, 0.0)
    assert tail_sigmas(sigmas, 2, 4) == pytest.approx((0.7, 0.55, 0.4, 0.2, 0.0))
    assert tail_sigmas(sigmas, 1, 2) == pytest.approx((0.9, 0.55, 0.0))


@pytest.mark.parametrize(
    ("k", "steps", "message"),
    [(2, 0, "tail_steps: 0 is below 1"), (4, 1, "k: 4 is outside"), (-1, 1, "k: -1 is outside")],
)
def test_a_tail_that_cannot_be_is_refused(k, steps, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        tail_sigmas((1.0, 0.9, 0.7, 0.4, 0.0), k, steps)


def test_no_step_is_no_change():
    x = randn(1, *SHAPE)
    assert torch.equal(ode(Decays(), x, cond=None, sigmas=(0.3,), batches=Batches(1)), x)


def test_a_batch_is_cut_into_calls_of_at_most_batch_size():
    policy, x = Decays(), randn(7, *SHAPE)
    found = ode(policy, x, cond=None, sigmas=(0.5, 0.4), batches=Batches(3))
    torch.testing.assert_close(found, 0.9 * x)
    assert sum(policy.batches) == 7
    assert max(policy.batches) == 3
