"""Statistics within groups of rewards (K, G), or (..., G): a group is the last axis.

A reward is NaN for an image that was not scored, which is left out.
"""

from __future__ import annotations

from math import inf

from torch import Tensor


def mean(scores: Tensor) -> float:
    """The mean of all scores that are not NaN."""
    return scores.nanmean().item()


def zero_spread(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K,) bool: whether a group's rewards are all the same number, or fewer than two."""
    return rewards_KG.nan_to_num(-inf).amax(-1) <= rewards_KG.nan_to_num(inf).amin(-1)


def group_mean(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, 1): the mean of each group; NaN for a group without scores."""
    return rewards_KG.nanmean(-1, keepdim=True)


def group_std(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, 1): the standard deviation (ddof 1) of each group; 0 for a group of fewer than two scores."""
    squares = (rewards_KG - group_mean(rewards_KG)).square().nansum(-1, keepdim=True)
    return (squares / (rewards_KG.isfinite().sum(-1, keepdim=True) - 1).clamp(min=1)).sqrt()


def normalise(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, G): mean 0 and standard deviation 1 within each group.

    0 where the group has no spread or the image no score.
    """
    normalised = (rewards_KG - group_mean(rewards_KG)) / (group_std(rewards_KG) + 1e-8)
    return normalised.nan_to_num(0.0).masked_fill(zero_spread(rewards_KG).unsqueeze(-1), 0.0)
