"""The objective of Pave-GRPO at one branch step (METHOD: the released code).

    loss_k = L_1 + 1/|S| sum_{n in S} L_n,   L_n = - mean_i A_i ratio_i,   ratio_i = exp(log p^(n)(y_i) - log p^(n)(y_i).detach())

and the trainer averages loss_k over the K branch steps. With S empty this is plain GRPO.

What of GRPO is left out, as in the released code, and why: the ratio's clipping (each rollout is used for one update, so the ratio is
1 in value and a clip could never act) and the KL term (its weight is 0 in every released run). The decomposed chains score branches that were
drawn with the plain step's std under their own, smaller std ("variance = reference"); at later steps they therefore outweigh L_1 about 3 : 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .types import Gaussian


def policy_gradient_loss(p: Gaussian, branches: Tensor, advantages: Tensor) -> Tensor:
    """L_n: branches (G, *S), detached advantages (G,) -> a scalar whose gradient is the policy gradient."""
    log_prob = p.log_prob(branches)
    ratio = torch.exp(log_prob - log_prob.detach())
    return -(advantages.to(ratio) * ratio).mean()


def decomposition_loss(transitions: Mapping[int, Gaussian], branches: Tensor, advantages: Tensor) -> Tensor:
    """loss_k from {1: p^(1), n: p^(n)}; branches (G, *S); advantages (G,)."""
    losses = {n: policy_gradient_loss(p, branches, advantages) for n, p in transitions.items()}
    plain = losses.pop(1)
    return plain + torch.stack(list(losses.values())).mean() if losses else plain
