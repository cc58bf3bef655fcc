"""The objective of Pave-GRPO at one branch step (METHOD: the released code).

    loss_k = w_1 L_1 + 1/|S| sum_{n in S} w_n L_n,   L_n = - mean_i A_i ratio_i,   ratio_i = exp(log p^(n)(y_i) - log p^(n)(y_i).detach())

with all weights 1 in the paper, and the trainer averages loss_k over the K branch steps. With S empty this is plain GRPO.

What of GRPO is left out, as in the released code, and why: the ratio's clipping (each rollout is used for one update, so the ratio is
1 in value and a clip could never act) and the KL term (its weight is 0 in every released run). The decomposed chains score branches that were
drawn with the plain step's std under their own, smaller std ("variance = reference"); at later steps they therefore outweigh L_1 about 3 : 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..types import Gaussian


def policy_gradient_loss(p: Gaussian, branches: Tensor, advantages: Tensor) -> Tensor:
    """L_n: branches (G, *S), detached advantages (G,) -> a scalar whose gradient is the policy gradient."""
    log_prob = p.log_prob(branches)
    ratio = torch.exp(log_prob - log_prob.detach())
    return -(advantages.to(ratio) * ratio).mean()


def decomposition_loss(
    transitions: Mapping[int, Gaussian],
    branches: Tensor,
    advantages: Tensor,
    weights: Mapping[int, float] | None = None,
) -> Tensor:
    """loss_k from {1: p^(1), n: p^(n)} and {n: w_n} (None: all 1); branches (G, *S); advantages (G,)."""
    losses = {
        n: (weights[n] if weights else 1.0) * policy_gradient_loss(p, branches, advantages)
        for n, p in transitions.items()
    }
    plain = losses.pop(1)
    return plain + torch.stack(list(losses.values())).mean() if losses else plain


@torch.no_grad()
def segment_metrics(p: Gaussian, branches: Tensor, advantages: Tensor) -> Tensor:
    """What chain n does at one branch step, as a tensor (3,) that stays on the device: log-probability, std and push.

    log-probability: mean_i log p^(n)(y_i), at best near -1/2
    std: of p^(n)
    push: the length of -dL_n/dmean = (1/G) sum_i A_i (y_i - mean) / (std^2 D), how hard this chain pulls the mean toward the better branches

    L_n itself is - mean_i A_i, about 0 whatever happens.
    """
    error = branches.to(p.mean) - p.mean
    push = (advantages.to(error).view(-1, *(1,) * (error.ndim - 1)) * error).mean(0) / (p.std**2 * p.mean[0].numel())
    return torch.stack([p.log_prob(branches).mean(), push.new_tensor(p.std), push.norm()])
