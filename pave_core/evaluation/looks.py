"""What became of the images, whatever the rewards say of them: a reward that is trained on alone is soon hacked.

shift   (mean after - mean before) / std before     of a statistic over the images: in units of its spread at the start
drift   mean_i |a_i - b_i| / mean_ij |b_i - b_j|    of small pictures, a after and b before: 1 where an image is as far
                                                    from what it was as two images of the base model are from each other
variety mean_ij |a_i - a_j| / mean_ij |b_i - b_j|   0 where all images have become one
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..rewards.statistics import STATISTICS

WATCHED = ("brightness", "contrast", "saturation", "sharpness")
MEASURED = (*WATCHED, "flatness")
"""The guard reads others of them (guard.py)."""
SIDE = 8  # pixels of a small picture
MOST_COMPARED = 500
"""Of more images only some are compared with each other: there are millions of pairs."""
LARGE_SHIFT = 1.0
"""A mean that has moved by the spread of the base model's images: most of them are now on one side of where it was."""
LARGE_CHANGE = 0.5
"""By what part of itself a mean has also to move, so that a narrow spread alone is no alarm."""
LEAST = 0.1
"""The smallest mean that a change is divided by, as the guard's."""
LARGE_DRIFT = 0.75
LITTLE_VARIETY = 0.5
LEAST_APART = 0.05
"""The smallest distance that a drift is divided by: images of a single prompt may be nearly the same."""


@dataclass(frozen=True)
class Looks:
    """N images as numbers."""

    statistics: dict[str, Tensor]  # by name: (N,)
    small: Tensor  # (N, SIDE, SIDE, 3)

    @classmethod
    def of(cls, images: Tensor) -> Looks:
        """The looks of images (N, H, W, 3) in [0, 1]. One by one, since a statistic takes memory of their size."""
        each = [image[None] for image in images]
        statistics = {name: torch.cat([STATISTICS[name](image) for image in each]) for name in MEASURED}
        small = [F.adaptive_avg_pool2d(image.movedim(-1, 1), SIDE).movedim(1, -1) for image in each]
        return cls(statistics, torch.cat(small))


@dataclass(frozen=True)
class Change:
    """What became of the images between two evaluations of the same prompts and seeds."""

    statistics: dict[str, tuple[float, float, float]]  # by name: mean before and after, shift
    drift: float
    variety: float

    @classmethod
    def of(cls, before: Looks, after: Looks) -> Change | None:
        """The change; None where a single image tells nothing of a spread."""
        if len(before.small) < 2:
            return None
        statistics = {}
        for name in WATCHED:
            base = before.statistics[name]
            mean, now = base.mean().item(), after.statistics[name].mean().item()
            statistics[name] = (mean, now, (now - mean) / max(base.std().item(), 1e-6))
        apart = _apart(before.small)
        moved = (after.small - before.small).abs().mean().item()
        return cls(statistics, moved / max(apart, LEAST_APART), _apart(after.small) / max(apart, 1e-6))

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON values."""
        names = ("before", "after", "shift")
        return {
            **{name: dict(zip(names, values)) for name, values in self.statistics.items()},
            "drift": self.drift,
            "variety": self.variety,
        }

    def text(self) -> str | None:
        """What has moved much, in words; None where nothing has."""
        moved = []
        for name, (mean, now, shift) in self.statistics.items():
            change = (now - mean) / max(mean, LEAST)
            if abs(shift) > LARGE_SHIFT and abs(change) > LARGE_CHANGE:
                moved.append(f"{name} {mean:.3g} -> {now:.3g} ({change:+.0%})")
        if self.variety < LITTLE_VARIETY:
            moved.append(f"the images differ from each other by {self.variety:.0%} of what they did")
        if self.drift > LARGE_DRIFT:
            moved.append(f"each has moved {self.drift:.1f} times as far as two images of the base model lie apart")
        if not moved:
            return None
        return (
            f"the images have changed much: {'; '.join(moved)}. Look at the grid: if they got worse, train more "
            "slowly, and keep them by a second reward or by Pave Guard"
        )


def _apart(small: Tensor) -> float:
    """mean_ij |b_i - b_j| over i != j, of at most 2 MOST_COMPARED images."""
    flat = small[:: max(1, len(small) // MOST_COMPARED)].flatten(1)
    N = len(flat)
    return torch.cdist(flat, flat, p=1).sum().item() / (N * (N - 1) * flat.shape[1])
