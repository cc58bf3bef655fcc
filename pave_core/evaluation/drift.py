"""How far the policy has moved from its base.

drift = mean ||v - v_0||^2 / mean ||v_0||^2

v is the policy's velocity, v_0 the base model's (the adapter off), both at fixed points (x, sigma) on the base model's
own trajectories. The drift is 0 at the start, and has no upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config.rollout import RolloutConfig
from ..training.processes import ALONE, Processes
from ..types import Cond, Policy

DRIFT_PROMPTS = 4
"""How many prompts the drift is measured on: a trajectory each, at a quarter, half and three quarters of the steps."""


class DriftProbe:
    """Fixed points (x, sigma) on the base model's trajectories, with the base model's velocity there.

    Make it while the adapter is off. processes: those that each measure, and go by what the first finds.
    """

    @torch.no_grad()
    def __init__(
        self, policy: Policy, conds: Mapping[str, Cond], config: RolloutConfig, processes: Processes = ALONE
    ) -> None:
        self._processes = processes
        sigmas = policy.sigmas(config.steps)
        noise = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
        places = sorted({max(1, config.steps * quarter // 4) for quarter in (1, 2, 3)})
        self._points: list[tuple[Cond, Tensor, Tensor, Tensor]] = []  # cond, x (1, *S), sigma (1,), v_0 (1, *S)
        for cond in list(conds.values())[:DRIFT_PROMPTS]:
            x = noise.to(policy.device) * sigmas[0]
            for k in range(max(places) + 1):
                sigma = x.new_tensor([sigmas[k]])
                v = policy.velocity(x, sigma, [cond])
                if k in places:
                    self._points.append((cond, x, sigma, v))
                x = x + (sigmas[k + 1] - sigmas[k]) * v

    @torch.no_grad()
    def measure(self, policy: Policy) -> float:
        """The drift of the policy as it is now."""
        moved = torch.stack(
            [(policy.velocity(x, sigma, [cond]) - v).square().mean() for cond, x, sigma, v in self._points]
        )
        base = torch.stack([v.square().mean() for *_, v in self._points])
        return self._processes.first(moved.mean() / base.mean()).item()
