"""Rollouts: one deterministic anchor, and branches that leave it by a single stochastic step (G2RPO, arXiv 2510.01982).

    anchor      x_{k+1} = x_k + (sigma_{k+1} - sigma_k) v(x_k, sigma_k)            Euler, T steps from one noise
    branches    y_i ~ transition(x_k -> sigma_{k+1}), i = 1..G, for every k in K, each finished by the same Euler steps

All G branches of a k share one x_k, so that the update needs the network at batch 1 whatever G is.
"""

from __future__ import annotations

import torch

from ..batches import Batches
from ..config.rollout import RolloutConfig
from ..flow.kernels import transition
from ..flow.solvers import batched_velocity
from ..types import Cond, Policy, Rollout


@torch.no_grad()
def sample_rollout(
    policy: Policy,
    prompt: str,
    *,
    cond: Cond,
    config: RolloutConfig,
    generator: torch.Generator,
    batches: Batches | None = None,
) -> Rollout:
    """One anchor and K x G branches for one prompt. `generator` is on the CPU: the noise is the same on any device.

    batches: the run's; None: new ones of config.batch_size.
    """
    batches = batches or Batches(config.batch_size)
    shape, device = policy.latent_shape, policy.device
    sigmas = policy.sigmas(config.steps)
    steps, G = config.branch_steps, config.group_size
    x = torch.randn(1, *shape, generator=generator).to(device) * sigmas[0]
    noise = torch.randn(len(steps), G, *shape, generator=generator).to(device)

    starts, branches = [], []
    live = x.new_empty(0, *shape)  # (K' * G, *S): the branches of the K' branch steps passed so far
    for k, (sigma, sigma_next) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        both = torch.cat([x, live])
        v = batched_velocity(policy, both, sigma=sigma, cond=cond, batches=batches)
        step = sigma_next - sigma
        live = live + step * v[1:]
        if k in steps:
            y = transition(
                x, v[:1], sigma=sigma, sigma_next=sigma_next, eta=config.eta, sigma_ceiling=sigmas[1]
            ).sample(noise[len(starts)])
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
