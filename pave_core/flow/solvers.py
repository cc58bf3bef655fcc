"""Solvers of the probability flow ODE dx/dsigma = v(x, sigma), as steps from sigma to sigma' with h = sigma' - sigma.

Euler        x' = x + h v
multistep    x' = x + h (v + h / (2 h_before) (v - v_before))        Adams-Bashforth 2 with variable steps (Hairer,
                                                                     Norsett, Wanner, Solving ODEs I, III.5)

The second is of second order for one evaluation of v a step, as it uses the velocity of the step before, of length
h_before; the first step of a path is Euler's.

Measured on the bundled model (T 16, branch steps 0, 2, 4, 6, groups of 12): tails of half the remaining steps rank the
CLIP scores of a group as tails of 64 Euler steps an image do with a Spearman correlation of 0.976; with Euler it is
0.948, and with DPM-Solver++(2M), the other candidate, 0.961.

`tail_sigmas` gives a path from the middle of a grid to its end any number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batches import Batches
from ..errors import ConfigError
from ..types import Cond, Policy


def euler(x: Tensor, v: Tensor, *, sigma: float, sigma_next: float) -> Tensor:
    """One Euler step: x and v (B, *S) at sigma -> (B, *S) at sigma_next."""
    return x + (sigma_next - sigma) * v


def multistep(
    x: Tensor,
    v: Tensor,
    *,
    sigma: float,
    sigma_next: float,
    v_before: Tensor | None = None,
    sigma_before: float | None = None,
) -> Tensor:
    """One step of second order: x and v (B, *S) at sigma -> (B, *S) at sigma_next.

    v_before: the velocity (B, *S) of the step before, which began at sigma_before > sigma; None: the first step.
    """
    if v_before is None or sigma_before is None:
        return euler(x, v, sigma=sigma, sigma_next=sigma_next)
    h, h_before = sigma_next - sigma, sigma - sigma_before
    return x + h * (v + h / (2 * h_before) * (v - v_before))


def tail_sigmas(sigmas: Sequence[float], k: int, steps: int) -> tuple[float, ...]:
    """A grid of `steps` steps from sigmas[k] to the last of `sigmas`: steps + 1 floats.

    sigmas: T + 1 floats. With steps = T - k they are sigmas[k:], else they lie evenly among its indices, linearly
    between two: with half as many steps, every second sigma. ConfigError unless steps >= 1 and 0 <= k < T.
    """
    remaining = len(sigmas) - 1 - k
    if steps < 1:
        raise ConfigError(f"tail_steps: {steps} is below 1: an image needs at least one step to be finished")
    if not 0 < remaining < len(sigmas):
        raise ConfigError(f"k: {k} is outside [0, {len(sigmas) - 1}): a tail begins before the last sigma")
    places = (divmod(remaining * i, steps) for i in range(steps))
    between = [sigmas[k + index] + rest / steps * (sigmas[k + index + 1] - sigmas[k + index]) for index, rest in places]
    return (*between, sigmas[-1])


@torch.no_grad()
def ode(policy: Policy, x: Tensor, *, cond: Cond, sigmas: Sequence[float], batches: Batches) -> Tensor:
    """Euler steps from sigmas[0] to sigmas[-1]: x (B, *S) -> (B, *S). No gradient is kept."""
    conds = [cond] * len(x)
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        v = batches.map(policy.velocity, x, x.new_full((len(x),), sigma), conds)
        x = euler(x, v, sigma=sigma, sigma_next=sigma_next)
    return x
