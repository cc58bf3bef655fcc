"""Paved transitions, the contribution of Pave-GRPO (arXiv 2606.01636, Algorithm 1; as in the authors' released code).

One coarse step from x_k at sigma_k to sigma_{k+1} is decomposed, for each n of the segment set S, into a chain of n
sub-steps of length dt_n = (sigma_{k+1} - sigma_k) / n:

    x^(0) = x_k
    x^(j+1) = x^(j) + dt_n v(x^(j), sigma_k + j dt_n)                  n - 1 Euler sub-steps, with gradient
    p^(n) = transition from sigma_k + (n - 1) dt_n to sigma_{k+1}      the last sub-step is stochastic

p^(1) is the plain SDE step. The images that were sampled from p^(1) are evaluated under every p^(n): no new rollouts,
no new rewards, and the gradient reaches the velocity at 1 + sum(n - 1) points (x, sigma) instead of one. All chains of
a step share v(x_k, sigma_k), and the sub-steps j of all chains of all steps run as one batch, so that there are max(S)
sequential network calls whatever the number of steps.

The images were drawn with the noise of the whole step, and the last sub-step of a chain is shorter. What the noise of
p^(n) is, is `variance`:

"reference"     std_n of the last sub-step, as released. The loss of chain n is about std_1^2 / std_n^2 times as steep
                as the plain step's. With mar, T 16, shift 3 and eta 0.8 that is, for n = 2 / 3: 1.01 / 2.03 at k = 0,
                2.61 / 4.22 at k = 2, 2.36 / 3.72 at k = 4, 2.29 / 3.58 at k = 6: from k = 2 on the chains together
                outweigh the plain step about 3 : 1.
"matched"       std_1 for every chain; the means are those of "reference".
"span"          one stochastic step over the whole of sigma_k to sigma_{k+1}, with the chain's mean velocity
                v_bar = (x_det - x_k) / (sigma_{k+1} - sigma_k), where x_det is reached by n Euler sub-steps:
                v_bar = 1/n sum_j v(x^(j), sigma_k + j dt_n). For n = 1 this is the plain step.

The std of the cps kernel depends on sigma_{k+1} alone, so that "reference" and "matched" are the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config.objective import Variance
from ..config.rollout import Kernel
from ..types import Cond, Gaussian, VelocityFn
from .kernels import transition


@dataclass(frozen=True)
class CoarseStep:
    """N steps of the coarse grid that images were drawn by: from x_k at sigma_k to sigma_{k+1}."""

    x: Tensor  # (N, *S)
    k: int
    conds: Sequence[Cond]  # N


class _Chain:
    """The n sub-steps of a coarse step, as far as they have gone: x^(j), and v(x^(0)) to v(x^(j))."""

    def __init__(self, step: CoarseStep, n: int, *, v_k: Tensor, sigmas: Sequence[float]) -> None:
        self.step, self.n, self.x, self.v = step, n, step.x, [v_k]
        self.sigma_k, self.sigma_next = sigmas[step.k], sigmas[step.k + 1]
        self.dt = (self.sigma_next - self.sigma_k) / n

    @property
    def sigma(self) -> float:
        """Where the last velocity was taken: sigma_k + j dt_n."""
        return self.sigma_k + (len(self.v) - 1) * self.dt


def paved_transitions(
    velocity: VelocityFn,
    steps: Sequence[CoarseStep],
    *,
    sigmas: Sequence[float],
    eta: float,
    segments: Sequence[int],
    kernel: Kernel = "mar",
    variance: Variance = "reference",
) -> list[dict[int, Gaussian]]:
    """For each of `steps`: {n: p^(n)} for n = 1 and every n of `segments`, with means (N, *S) of the step's x.

    velocity: called max(S) times, the first time with the x of all steps. sigmas: the coarse grid, T + 1 floats.
    segments: distinct ints >= 2, or none (plain GRPO). ConfigError from the kernel; see transition().
    """
    v_k = _evaluate(velocity, [(step.x, sigmas[step.k], step.conds) for step in steps])
    chains = [
        {n: _Chain(step, n, v_k=v, sigmas=sigmas) for n in (1, *segments)} for step, v in zip(steps, v_k, strict=True)
    ]
    for j in range(1, max(segments, default=1)):
        under_way = [chain for of_step in chains for chain in of_step.values() if chain.n > j]
        for chain in under_way:
            chain.x = chain.x + chain.dt * chain.v[-1]
        points = [(chain.x, chain.sigma_k + j * chain.dt, chain.step.conds) for chain in under_way]
        for chain, v in zip(under_way, _evaluate(velocity, points), strict=True):
            chain.v.append(v)

    def density(chain: _Chain) -> Gaussian:
        if variance == "span":
            x, v, sigma, ceiling = chain.step.x, torch.stack(chain.v).mean(0), chain.sigma_k, sigmas[1]
        else:
            x, v, sigma = chain.x, chain.v[-1], chain.sigma
            ceiling = max(sigmas[1], chain.sigma_k + chain.dt)  # the second sigma of the grid that the chain walks
        return transition(x, v, sigma=sigma, sigma_next=chain.sigma_next, eta=eta, sigma_ceiling=ceiling, kernel=kernel)

    transitions = [{n: density(chain) for n, chain in of_step.items()} for of_step in chains]
    if variance == "matched":
        return [{n: replace(p_n, std=p[1].std) for n, p_n in p.items()} for p in transitions]
    return transitions


def _evaluate(velocity: VelocityFn, points: Sequence[tuple[Tensor, float, Sequence[Cond]]]) -> Sequence[Tensor]:
    """v(x (N, *S), sigma, N conditionings) at several points, in one call."""
    # Filled on the device, since a copy from the CPU would have to be waited for.
    sigma = torch.cat([x.new_full((len(x),), sigma) for x, sigma, _ in points])
    conds = [cond for *_, conds in points for cond in conds]
    return velocity(torch.cat([x for x, _, _ in points]), sigma, conds).split([len(x) for x, _, _ in points])
