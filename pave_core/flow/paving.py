"""Paved transitions, the contribution of Pave-GRPO (arXiv 2606.01636, Algorithm 1; as in the authors' released code).

One coarse step from x_k at sigma_k to sigma_{k+1} is decomposed, for each n of the segment set S, into a chain of n
sub-steps of length dt_n = (sigma_{k+1} - sigma_k) / n:

    x^(0) = x_k
    x^(j+1) = x^(j) + dt_n v(x^(j), sigma_k + j dt_n)                  n - 1 Euler sub-steps, with gradient
    p^(n) = transition from sigma_k + (n - 1) dt_n to sigma_{k+1}      the last sub-step is stochastic

p^(1) is the plain SDE step. The branches that were sampled from p^(1) are evaluated under every p^(n): no new rollouts,
no new rewards, and the gradient reaches the velocity at 1 + sum(n - 1) points (x, sigma) instead of one. All chains
share v(x_k, sigma_k), and the sub-steps j of all chains run as one batch, so that there are max(S) sequential network
calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..types import Gaussian, VelocityFn
from .kernels import transition


def paved_transitions(
    velocity: VelocityFn, x_k: Tensor, *, k: int, sigmas: Sequence[float], eta: float, segments: Sequence[int]
) -> dict[int, Gaussian]:
    """{n: p^(n)} for n = 1 and every n of `segments`. Each p^(n) has a mean of (1, *S).

    x_k: (1, *S); k: the branch step, from 0; sigmas: the coarse grid, T + 1 floats; segments: distinct ints >= 2, or
    none (plain GRPO).
    """
    sigma_k, sigma_next = sigmas[k], sigmas[k + 1]
    dt = {n: (sigma_next - sigma_k) / n for n in (1, *segments)}
    v_k = velocity(x_k, x_k.new_full((1,), sigma_k))
    x = dict.fromkeys(dt, x_k)
    v = dict.fromkeys(dt, v_k)
    for j in range(1, max(dt)):
        under_way = [n for n in dt if n > j]
        for n in under_way:
            x[n] = x[n] + dt[n] * v[n]
        # Filled on the device, since a copy from the CPU would have to be waited for.
        sigma = torch.cat([x_k.new_full((1,), sigma_k + j * dt[n]) for n in under_way])
        velocities = velocity(torch.cat([x[n] for n in under_way]), sigma)
        v |= dict(zip(under_way, velocities.split(1), strict=True))

    def last_step(n: int) -> Gaussian:
        # The ceiling below sigma = 1 is the second sigma of the grid that chain n steps along.
        ceiling = max(sigmas[1], sigma_k + dt[n])
        return transition(
            x[n], v[n], sigma=sigma_k + (n - 1) * dt[n], sigma_next=sigma_next, eta=eta, sigma_ceiling=ceiling
        )

    return {n: last_step(n) for n in dt}
