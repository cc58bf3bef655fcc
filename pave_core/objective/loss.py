"""The objective of Pave-GRPO at one branch step k (arXiv 2606.01636, as in the authors' released code).

    loss_k  = w_1 L_1 + 1/|S| sum_{n in S} w_n L_n          all weights are 1 in the paper
    L_n     = - mean_i A_i ratio_i
    ratio_i = exp(log p^(n)(y_i) - log p^(n)(y_i).detach())

The trainer averages loss_k over the K branch steps. With S empty this is plain GRPO.

Two parts of GRPO are left out, as in the released code: the clipping of the ratio (each rollout is used for one update,
so that the ratio is 1 in value and a clip could never act) and the KL term (its weight is 0 in every released run). The
chains n > 1 evaluate branches that were sampled with the plain step's std under their own, smaller std ("variance =
reference"); at later branch steps they therefore outweigh L_1 about 3 : 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..types import Gaussian


@torch.no_grad()
def mean_gradient(p: Gaussian, branches: Tensor, advantages: Tensor) -> Tensor:
    """dL_n/dmean = -(1/G) sum_i A_i (y_i - mean) / (std^2 D): branches (G, *S), advantages (G,) -> (1, *S).

    D: the number of latent elements. As std does not depend on the weights, the mean carries the whole gradient.
    """
    error = branches.to(p.mean) - p.mean
    weighted = advantages.to(error).view(-1, *(1,) * (error.ndim - 1)) * error
    return -weighted.mean(0, keepdim=True) / (p.std**2 * p.mean[0].numel())


def policy_gradient_loss(p: Gaussian, branches: Tensor, advantages: Tensor) -> Tensor:
    """L_n: branches (G, *S), detached advantages (G,) -> a scalar whose gradient is the policy gradient.

    Its graph holds one tensor of a latent's size, so that time and memory of the backward pass do not depend on G.
    """
    value = -advantages.mean().to(p.mean)  # every ratio is 1
    return value + ((p.mean - p.mean.detach()) * mean_gradient(p, branches, advantages)).sum()


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
    """What chain n does at one branch step: a tensor (3,) of log-probability, std and push that stays on the device.

    log-probability: mean_i log p^(n)(y_i), at best near -1/2
    std: of p^(n)
    push: |dL_n/dmean|: how hard this chain pulls the mean toward the better branches

    The value of L_n says nothing: it is - mean_i A_i, always about 0.
    """
    push = mean_gradient(p, branches, advantages).norm()
    return torch.stack([p.log_prob(branches).mean(), push.new_tensor(p.std), push])
