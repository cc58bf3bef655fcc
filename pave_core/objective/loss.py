"""The objective of Pave-GRPO (arXiv 2606.01636): what an observed step x_k -> y_1..y_G adds to the loss.

    loss    = w_1 L_1 + 1/|S| sum_{n in S} w_n L_n           all weights are 1 in the paper
    L_n     = - mean_i f(A_i, ratio_i) + beta KL_n
    ratio_i = exp(log p^(n)(y_i) - log p^(n)_old(y_i))        p_old: the policy of the rollout's first update
    KL_n    = |mu_n - mu_n,ref|^2 / (2 std_n^2)               a mean over latent elements (Flow-GRPO, arXiv 2505.05470)

The reference is the network with the adapter off. With S empty this is plain GRPO. What f is:

    unclipped          A ratio
    clip               min(A ratio, A clamp(ratio, 1 - c, 1 + c))                     PPO, arXiv 1707.06347
    divergence mask    0 where A (ratio - 1) > 0 and KL(p || p_old) > d, else A ratio     Flow-DPPO, arXiv 2606.11025

In a rollout's first update every ratio is 1 in value, and all three are the same: that is the released code, which
makes one update a rollout, with neither clip nor KL.

As std does not depend on the weights, the mean carries the whole gradient: for an f that is not limited at i,

    dL_n/dmean = - (1/G) sum_i A_i ratio_i (y_i - mean) / (std^2 D)        D: the number of latent elements

so that time and memory of the backward pass do not depend on G.

The images were drawn around mean_1. A chain of n sub-steps leads elsewhere, so that y_i - mean_n is the noise that was
drawn and the gap mean_1 - mean_n between coarse and finer step. Where all images of a group leave one x_k, they have
one gap, and as sum_i A_i = 0 it is in no gradient. Trajectories have an x_k each: A_i (mean_1 - mean_n) remains, which
is no reward's, and draws the finer step to the coarse one where A_i > 0 and drives it away where A_i < 0. With residual
"noise" the images are moved by the gap of the policy that drew them,

    y_i^(n) = y_i - (mean_1,old - mean_n,old)           y_i^(n) - mean_n is the noise in a rollout's first update

All functions take N observed steps at once: means (N, *S), branches (N, G, *S), advantages (N, G).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config.objective import PaveConfig
from ..types import Gaussian


def log_probs(p: Gaussian, branches: Tensor) -> Tensor:
    """log p^(n)(y_i): (N, G), without the normaliser; see Gaussian.log_prob."""
    error = branches.to(p.mean) - p.mean.unsqueeze(1)
    return -error.square().flatten(2).mean(2) / (2 * p.std**2)


@torch.no_grad()
def mean_gradient(p: Gaussian, branches: Tensor, weights: Tensor) -> Tensor:
    """-(1/G) sum_i w_i (y_i - mean) / (std^2 D): weights (N, G) -> (N, *S), a constant."""
    error = branches.to(p.mean) - p.mean.unsqueeze(1)
    weights = weights.to(error).view(*weights.shape, *(1,) * (error.ndim - 2))
    return -(weights * error).mean(1) / (p.std**2 * p.mean[0].numel())


@torch.no_grad()
def surrogate(
    p: Gaussian, branches: Tensor, advantages: Tensor, *, old: Gaussian | None, config: PaveConfig
) -> tuple[Tensor, Tensor]:
    """(f(A_i, ratio_i), df/dlog p^(n)(y_i)), both (N, G). old: p^(n)_old; None in a rollout's first update.

    The second is A_i ratio_i, or 0 where f is limited.
    """
    A = advantages.to(p.mean)
    if old is None:
        return A, A
    ratio = (log_probs(p, branches) - log_probs(old, branches)).exp()
    away = A * (ratio - 1) > 0  # following A further would lead further away from the old policy
    match config.ratio:
        case "unclipped":
            return A * ratio, A * ratio
        case "clip":
            limited = away & ((ratio - 1).abs() > config.clip_range)
            bounded = A * ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
            return torch.where(limited, bounded, A * ratio), (A * ratio).masked_fill(limited, 0.0)
        case "divergence mask":
            limited = away & (p.divergence(old) > config.max_divergence).unsqueeze(1)
            kept = (A * ratio).masked_fill(limited, 0.0)
            return kept, kept


def chain_loss(
    p: Gaussian,
    branches: Tensor,
    advantages: Tensor,
    *,
    config: PaveConfig,
    old: Gaussian | None = None,
    reference: Gaussian | None = None,
    gap: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """L_n (N,) of p = p^(n), and what chain n does: (N, 5), the fields of SegmentMetrics, constants on the device.

    The value of L_n would say nothing: it is - mean_i A_i, always about 0. old: as in surrogate(). reference: p^(n) of
    the reference; None: without the KL term. gap: mean_1,old - mean_n,old (N, *S), by which the images are moved; None:
    they are left where they are. What chain n does is said of the images where they are.
    """
    y = branches if gap is None else branches - gap.unsqueeze(1)
    value, weights = surrogate(p, y, advantages, old=old, config=config)
    push = mean_gradient(p, y, weights)
    loss = ((p.mean - p.mean.detach()) * push).flatten(1).sum(1) - value.mean(1)
    kl = torch.zeros_like(loss) if reference is None else p.divergence(reference)
    with torch.no_grad():
        limited = ((weights == 0) & (advantages.to(weights) != 0)).to(loss).mean(1)
        log_prob, norm = log_probs(p, branches).mean(1), push.flatten(1).norm(dim=1)
        metrics = torch.stack([log_prob, torch.full_like(norm, p.std), norm, kl, limited], 1)
    return (loss if reference is None else loss + config.kl_weight * kl), metrics


def decomposition_loss(
    transitions: Mapping[int, Gaussian],
    branches: Tensor,
    advantages: Tensor,
    *,
    config: PaveConfig,
    old: Mapping[int, Gaussian] | None = None,
    reference: Mapping[int, Gaussian] | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss (N,) from {n: p^(n)}, n = 1 and every n of config.segments, and what the C chains do: (N, 5 C).

    old, reference: {n: p^(n)} likewise. What chains do: as in chain_loss(), in the order of `transitions`.
    """
    weights, losses, metrics = config.weights(), {}, []
    drew = old or transitions
    for n, p in transitions.items():
        moved = n > 1 and config.residual == "noise"
        gap = (drew[1].mean - drew[n].mean).detach() if moved else None
        held_against = {"old": old[n] if old else None, "reference": reference[n] if reference else None}
        loss, of_chain = chain_loss(p, branches, advantages, config=config, gap=gap, **held_against)
        losses[n] = weights[n] * loss
        metrics.append(of_chain)
    whole = losses.pop(1)
    if losses:
        whole = whole + torch.stack(list(losses.values())).mean(0)
    return whole, torch.cat(metrics, 1)
