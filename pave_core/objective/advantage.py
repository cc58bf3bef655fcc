"""Group-relative advantages (GRPO, arXiv 2402.03300).

    A_i = clamp((r_i - mean r) / (std r + 1e-8), -c, c)      within one (prompt, branch step); std with ddof 1, c = 5

and for a mix of rewards r_j with weights w_j, before the clamp

    sum_j w_j normalise(r_j)      "within group": each reward by its own mean and std (MixGRPO, arXiv 2507.21802)
    normalise(sum_j w_j r_j)      "raw"

AdaGRPO (arXiv 2606.06828) adds a global part, which compares with the running statistics of other prompts' scores:

    z_i = (r_i - running mean) / (running std + 1e-8)
    A_i = z_i / sum of the positive z      where z_i > 0
          z_i / |sum of the negative z|    where z_i < 0
          z_i - mean z                     if one of the sums is below 1e-6
    clamped to [-c, c] on its own

A group without spread teaches nothing: its advantages are exactly 0 and the training step skips it. An image that a
reward did not score (NaN, see Reward.may_abstain) is left out of its group's mean and std, and its own advantage is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..rollout.curriculum import RunningStats
from ..scoring.groups import group_mean, normalise, zero_spread
from ..scoring.mix import Scores, weighted_sum


def compute_advantages(rewards_KG: Tensor, clip: float) -> Tensor:
    """Rewards (K, G) -> advantages (K, G) in [-clip, clip]; G >= 2."""
    return normalise(rewards_KG).clamp(-clip, clip)


def advantages_of(scores: Scores, clip: float) -> Tensor:
    """The advantages (..., G) of the scores of a mix, within groups along the last axis."""
    if scores.normalise == "raw":
        return compute_advantages(scores.total(), clip)
    return weighted_sum((normalise(values) for values in scores.values.values()), scores.weights).clamp(-clip, clip)


def global_advantages(rewards_KG: Tensor, stats: RunningStats, clip: float) -> Tensor:
    """AdaGRPO's global part (K, G) in [-clip, clip], to be added to the advantages within groups.

    rewards_KG: (K, G), NaN for an image without a score.
    """
    z = (rewards_KG - stats.mean) / (stats.var**0.5 + 1e-8)
    above, below = (part.nansum(-1, keepdim=True) for part in (z.clamp(min=0), -z.clamp(max=0)))
    shares = torch.where(z > 0, z / above, z / below)
    one_sided = (above < 1e-6) | (below < 1e-6)
    advantages = torch.where(one_sided, z - group_mean(z), shares)
    taught = rewards_KG.isfinite() & ~zero_spread(rewards_KG).unsqueeze(-1)
    return advantages.where(taught, 0.0).clamp(-clip, clip)
