"""Solvers of the probability flow ODE dx/dsigma = v(x, sigma).

Euler        x_{k+1} = x_k + (sigma_{k+1} - sigma_k) v(x_k, sigma_k)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batches import Batches
from ..types import Cond, Policy


def batched_velocity(policy: Policy, x: Tensor, *, sigma: float, cond: Cond, batches: Batches) -> Tensor:
    """v(x (B, *S), sigma) -> (B, *S), in calls of at most `batches.size` latents."""
    return batches.map(lambda part: policy.velocity(part, part.new_full((len(part),), sigma), [cond] * len(part)), x)


@torch.no_grad()
def ode(policy: Policy, x: Tensor, *, cond: Cond, sigmas: Sequence[float], batches: Batches) -> Tensor:
    """Euler steps from sigmas[0] to sigmas[-1]: x (B, *S) -> (B, *S). No gradient is kept."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        v = batched_velocity(policy, x, sigma=sigma, cond=cond, batches=batches)
        x = x + (sigma_next - sigma) * v
    return x
