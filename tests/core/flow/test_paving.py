"""Paved transitions, against chains written out by hand."""

import pytest
import torch

from _flow import SHAPE, linear_velocity, randn
from pave_core.flow.kernels import transition
from pave_core.flow.paving import paved_transitions
from pave_core.flow.schedule import shifted_sigmas


@pytest.mark.parametrize("sigma_0", [1.0, 0.9997, 0.995])
def test_a_schedule_that_begins_just_below_one_is_not_destroyed(sigma_0):
    sigmas = (sigma_0, *shifted_sigmas(16, 3.0)[1:])
    x = randn(1, *SHAPE)
    p = paved_transitions(lambda x, sigma: torch.zeros_like(x), x, k=0, sigmas=sigmas, eta=0.8, segments=(2, 3))
    assert all(0.4 < q.std < 0.82 for q in p.values())  # eta, or a little less where the first step is shorter
    assert p[1].mean.norm() < x.norm()


def test_p1_is_the_plain_step_whatever_the_segments():
    sigmas, x = shifted_sigmas(8, 3.0), randn(1, *SHAPE)
    velocity = linear_velocity(torch.eye(3) * 0.3)
    plain = paved_transitions(velocity, x, k=2, sigmas=sigmas, eta=0.8, segments=())
    paved = paved_transitions(velocity, x, k=2, sigmas=sigmas, eta=0.8, segments=(2, 5))
    expected = transition(
        x,
        velocity(x, torch.tensor([sigmas[2]])),
        sigma=sigmas[2],
        sigma_next=sigmas[3],
        eta=0.8,
        sigma_ceiling=sigmas[1],
    )
    assert list(plain) == [1]
    assert torch.equal(plain[1].mean, expected.mean)
    assert torch.equal(paved[1].mean, expected.mean)
    assert plain[1].std == paved[1].std == expected.std


def test_a_chain_is_euler_steps_and_then_the_transition():
    """Written out by hand for n = 3."""
    sigmas, x, W = shifted_sigmas(8, 3.0), randn(1, *SHAPE), randn(3, 3, seed=4)
    velocity = linear_velocity(W)
    k, dt = 3, (sigmas[4] - sigmas[3]) / 3
    at = [sigmas[3], sigmas[3] + dt, sigmas[3] + 2 * dt]
    x1 = x + dt * velocity(x, torch.tensor(at[:1]))
    x2 = x1 + dt * velocity(x1, torch.tensor(at[1:2]))
    expected = transition(
        x2,
        velocity(x2, torch.tensor(at[2:])),
        sigma=at[2],
        sigma_next=sigmas[4],
        eta=0.8,
        sigma_ceiling=sigmas[1],
    )
    found = paved_transitions(velocity, x, k=k, sigmas=sigmas, eta=0.8, segments=(3,))[3]
    torch.testing.assert_close(found.mean, expected.mean)
    assert found.std == pytest.approx(expected.std)


def test_network_calls_are_max_s_and_evaluations_one_plus_sum():
    batches = []

    def velocity(x, sigma):
        assert sigma.shape == (len(x),)
        batches.append(len(x))
        return x * 0.1

    sigmas = shifted_sigmas(8, 3.0)
    paved_transitions(velocity, randn(1, *SHAPE), k=1, sigmas=sigmas, eta=0.8, segments=(2, 3, 5))
    assert len(batches) == 5
    assert sum(batches) == 1 + 1 + 2 + 4


def test_chains_do_not_feel_each_other():
    """They share network calls; each is what it is alone."""
    sigmas, x, velocity = shifted_sigmas(8, 3.0), randn(1, *SHAPE), linear_velocity(randn(3, 3, seed=4))
    together = paved_transitions(velocity, x, k=1, sigmas=sigmas, eta=0.8, segments=(2, 3, 5))
    for n in (2, 3, 5):
        alone = paved_transitions(velocity, x, k=1, sigmas=sigmas, eta=0.8, segments=(n,))[n]
        torch.testing.assert_close(together[n].mean, alone.mean)
        assert together[n].std == alone.std
