"""Group-relative advantages (GRPO, arXiv 2402.03300).

    A_i = clamp((r_i - mean r) / (std r + 1e-8), -c, c)        within one (prompt, branch step); std with ddof 1, c = 5

A group without spread teaches nothing: its advantages are exactly 0 and the trainer skips it. An image that a reward did not score (NaN, see
Reward.may_abstain) is left out of its group's mean and std, and its own advantage is 0.
"""

from __future__ import annotations

from math import inf

from torch import Tensor


def zero_spread(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K,) bool: the groups whose rewards are all the same number, or in which fewer than two images have one."""
    return rewards_KG.nan_to_num(-inf).amax(-1) <= rewards_KG.nan_to_num(inf).amin(-1)


def group_mean(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, 1): the mean of each group's scored images."""
    return rewards_KG.nanmean(-1, keepdim=True)


def group_std(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, 1): the standard deviation (ddof 1) of each group's scored images; 0 where there are fewer than two."""
    squares = (rewards_KG - group_mean(rewards_KG)).square().nansum(-1, keepdim=True)
    return (squares / (rewards_KG.isfinite().sum(-1, keepdim=True) - 1).clamp(min=1)).sqrt()


def normalise(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, G): mean 0 and standard deviation 1 within each group, 0 where the group has no spread or the image no score."""
    normalised = (rewards_KG - group_mean(rewards_KG)) / (group_std(rewards_KG) + 1e-8)
    return normalised.nan_to_num(0.0).masked_fill(zero_spread(rewards_KG).unsqueeze(-1), 0.0)


def compute_advantages(rewards_KG: Tensor, clip: float) -> Tensor:
    """Rewards (K, G) -> advantages (K, G) in [-clip, clip]; G >= 2."""
    return normalise(rewards_KG).clamp(-clip, clip)
