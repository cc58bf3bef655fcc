"""Group-relative advantages (GRPO, arXiv 2402.03300).

    A_i = clamp((r_i - mean r) / (std r + 1e-8), -c, c)      within one (prompt, branch step); std with ddof 1, c = 5

and for a mix of rewards r_j with weights w_j, before the clamp

    sum_j w_j normalise(r_j)      "within group": each reward by its own mean and std (MixGRPO, arXiv 2507.21802)
    normalise(sum_j w_j r_j)      "raw"

A group without spread teaches nothing: its advantages are exactly 0 and the training step skips it. An image that a
reward did not score (NaN, see Reward.may_abstain) is left out of its group's mean and std, and its own advantage is 0.
"""

from __future__ import annotations

from torch import Tensor

from ..scoring.groups import normalise
from ..scoring.mix import Scores, weighted_sum


def compute_advantages(rewards_KG: Tensor, clip: float) -> Tensor:
    """Rewards (K, G) -> advantages (K, G) in [-clip, clip]; G >= 2."""
    return normalise(rewards_KG).clamp(-clip, clip)


def advantages_of(scores: Scores, clip: float) -> Tensor:
    """The advantages (..., G) of the scores of a mix, within groups along the last axis."""
    if scores.normalise == "raw":
        return compute_advantages(scores.total(), clip)
    return weighted_sum((normalise(values) for values in scores.values.values()), scores.weights).clamp(-clip, clip)
