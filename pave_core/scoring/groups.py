"""Statistics within groups: rewards (K, G), or (..., G), grouped along the last axis. NaN is an image that a reward did not score."""

from __future__ import annotations

from math import inf

from torch import Tensor


def mean(scores: Tensor) -> float:
    """The mean of the images that have a score."""
    return scores.nanmean().item()


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
