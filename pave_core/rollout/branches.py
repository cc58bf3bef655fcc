"""Rollouts: one deterministic anchor, and branches that leave it by a single stochastic step (G2RPO, arXiv 2510.01982).

    anchor      x_{k+1} = x_k + (sigma_{k+1} - sigma_k) v(x_k, sigma_k)            Euler, T steps from one noise
    branches    y_i ~ transition(x_k -> sigma_{k+1}), i = 1..G, for every k in K, each finished by the same Euler steps

All G branches of a k share one x_k, so that the update needs the network at batch 1 whatever G is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config.train import RolloutConfig
from ..flow.kernels import transition
from ..types import Cond, Policy, Rollout


def _batched_velocity(policy: Policy, x: Tensor, sigma: float, cond: Cond, batch_size: int) -> Tensor:
    chunks = [policy.velocity(part, part.new_full((len(part),), sigma), cond) for part in x.split(batch_size)]
    return torch.cat(chunks)


@torch.no_grad()
def ode(policy: Policy, x: Tensor, cond: Cond, sigmas: Sequence[float], batch_size: int) -> Tensor:
    """Euler from sigmas[0] to sigmas[-1]: x (B, *S) -> (B, *S)."""
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        x = x + (sigma_next - sigma) * _batched_velocity(policy, x, sigma, cond, batch_size)
    return x


@torch.no_grad()
def sample_rollout(policy: Policy, prompt: str, cond: Cond, config: RolloutConfig, generator: torch.Generator) -> Rollout:
    """One anchor and K x G branches for one prompt. `generator` is a CPU generator: the same noise on every device."""
    shape, device = policy.latent_shape, policy.device
    sigmas = policy.sigmas(config.steps)
    steps, G = config.branch_steps, config.group_size
    x = torch.randn(1, *shape, generator=generator).to(device) * sigmas[0]
    noise = torch.randn(len(steps), G, *shape, generator=generator).to(device)

    starts, branches = [], []
    live = x.new_empty(0, *shape)  # the branches of all k begun so far, K' * G of them
    for k, (sigma, sigma_next) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        v = _batched_velocity(policy, torch.cat([x, live]), sigma, cond, config.batch_size)
        step = sigma_next - sigma
        live = live + step * v[1:]
        if k in steps:
            y = transition(x, v[:1], sigma, sigma_next, config.eta, sigmas[1]).sample(noise[len(starts)])
            starts.append(x)
            branches.append(y)
            live = torch.cat([live, y])
        x = x + step * v[:1]
    return Rollout(
        prompt=prompt,
        cond=cond,
        sigmas=sigmas,
        branch_steps=steps,
        starts=torch.stack(starts),
        branches=torch.stack(branches),
        finals=live.view(len(steps), G, *shape),
        anchor_final=x,
    )
