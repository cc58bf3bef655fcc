"""A smooth preference for one colour, the simplest reward.

r(image) = mean over pixels of exp(-||rgb - target||^2 / (2 softness^2))         in (0, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..errors import ConfigError


@dataclass(frozen=True)
class ColourReward:
    """The preference for one colour as a reward. ConfigError for numbers outside their ranges.

    red, green, blue: the colour, each in [0, 1]. softness: the distance in RGB (0 to sqrt 3) at which a pixel's score
    has fallen to exp(-1/2) = 0.61; larger is smoother, and harder to hack.
    """

    red: float
    green: float
    blue: float
    softness: float = 0.5

    name = "colour"

    def __post_init__(self) -> None:
        for channel in ("red", "green", "blue"):
            value = getattr(self, channel)
            if not 0 <= value <= 1:
                raise ConfigError(f"{channel}: {value} is outside [0, 1]: 0 is none of it, 1 is all")
        if not self.softness > 0:
            raise ConfigError(f"softness: {self.softness} is not positive: 0.5 is smooth, 0.1 is strict")

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32; the prompts do not matter."""
        target = torch.tensor([self.red, self.green, self.blue])
        distance2 = (images[..., :3].float() - target).square().sum(-1)  # (N, H, W)
        return torch.exp(-distance2 / (2 * self.softness**2)).mean((1, 2))

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return asdict(self)
