"""Group-relative advantages (GRPO, arXiv 2402.03300).

    A_i = clamp((r_i - mean r) / (std r + 1e-8), -c, c)        within one (prompt, branch step); std with ddof 1, c = 5

A group without spread teaches nothing: its advantages are exactly 0 and the trainer skips it.
"""

from __future__ import annotations

from torch import Tensor


def zero_spread(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K,) bool: the groups whose rewards are all the same number."""
    return rewards_KG.amax(-1) == rewards_KG.amin(-1)


def normalise(rewards_KG: Tensor) -> Tensor:
    """(K, G) -> (K, G): mean 0 and standard deviation 1 within each group, 0 where the group has no spread."""
    centred = rewards_KG - rewards_KG.mean(-1, keepdim=True)
    normalised = centred / (rewards_KG.std(-1, keepdim=True) + 1e-8)
    return normalised.masked_fill(zero_spread(rewards_KG).unsqueeze(-1), 0.0)


def compute_advantages(rewards_KG: Tensor, clip: float) -> Tensor:
    """Rewards (K, G) -> advantages (K, G) in [-clip, clip]; G >= 2."""
    return normalise(rewards_KG).clamp(-clip, clip)
