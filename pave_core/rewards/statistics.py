"""Statistics of images, and rewards for more, less or a certain value of one. Easy to hack: mix them with others.

Y = 0.299 R + 0.587 G + 0.114 B                                               luma (ITU-R BT.601)

brightness    mean Y                                                          in [0, 1]
contrast      sqrt(mean (Y - mean Y)^2)                                       RMS contrast (Peli 1990), in [0, 0.5]
saturation    mean (max(R, G, B) - min(R, G, B)) / max(R, G, B), 0 for black  HSV (Smith 1978), in [0, 1]
colourfulness sqrt(var a + var b) + 0.3 sqrt((mean a)^2 + (mean b)^2)         Hasler and Suesstrunk 2003, on 0 to 255:
              with a = R - G, b = (R + G) / 2 - B                             0 none, 33 moderate, 59 quite, 109 extreme
sharpness     var of the Laplacian of Y, on 0 to 255, edge pixels repeated    Pech-Pacheco et al. 2000; under 100: soft
warmth        mean R - mean B                                                 in [-1, 1]
flatness      share of the pixels whose Y differs from that of their right    in [0, 1]
              and their lower neighbour by less than 2/255
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, quoted

PIXEL_STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda pixels: pixels.mean(1),
    "standard deviation": lambda pixels: pixels.std(1),
    "maximum": lambda pixels: pixels.amax(1),
    "minimum": lambda pixels: pixels.amin(1),
}
"""Statistics of an image's pixel values, whatever its channels mean, by name: (N, values) -> (N,)."""

Direction = Literal["more", "less", "near"]


def luma(images: Tensor) -> Tensor:
    """Y (N, H, W) of images (N, H, W, 3)."""
    return images @ images.new_tensor([0.299, 0.587, 0.114])


def brightness(images: Tensor) -> Tensor:
    """Mean luma, (N,) in [0, 1]."""
    return luma(images).mean((1, 2))


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of luma, (N,) in [0, 0.5]."""
    return luma(images).std((1, 2), correction=0)


def saturation(images: Tensor) -> Tensor:
    """Mean saturation of HSV, (N,) in [0, 1]."""
    high, low = images.amax(-1), images.amin(-1)
    return torch.where(high > 0, (high - low) / high.clamp_min(1e-12), 0).mean((1, 2))


def colourfulness(images: Tensor) -> Tensor:
    """Spread of the opponent colours and their distance from grey, (N,) on a scale of 0 to 255."""
    red, green, blue = (255 * images).unbind(-1)
    a, b = red - green, (red + green) / 2 - blue
    spread = (a.var((1, 2), correction=0) + b.var((1, 2), correction=0)).sqrt()
    return spread + 0.3 * (a.mean((1, 2)).square() + b.mean((1, 2)).square()).sqrt()


def sharpness(images: Tensor) -> Tensor:
    """Variance of the Laplacian of luma, (N,) on a scale of 0 to 255."""
    Y = F.pad(255 * luma(images)[:, None], (1, 1, 1, 1), mode="replicate")
    kernel = Y.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    return F.conv2d(Y, kernel[None, None]).var((1, 2, 3), correction=0)


def warmth(images: Tensor) -> Tensor:
    """Mean red minus mean blue, (N,) in [-1, 1]."""
    return images[..., 0].mean((1, 2)) - images[..., 2].mean((1, 2))


def flatness(images: Tensor) -> Tensor:
    """Share of the pixels without detail, (N,) in [0, 1]."""
    Y = luma(images)
    right, below = (Y[:, :-1, 1:] - Y[:, :-1, :-1]).abs(), (Y[:, 1:, :-1] - Y[:, :-1, :-1]).abs()
    return (torch.maximum(right, below) < 2 / 255).float().mean((1, 2))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "colourfulness": colourfulness,
    "saturation": saturation,
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "warmth": warmth,
    "flatness": flatness,
}
"""The statistics by name: images (N, H, W, 3) fp32 in [0, 1] -> (N,)."""


@dataclass(frozen=True)
class StatisticReward:
    """r = s for "more", -s for "less", -|s - target| for "near"; s is the statistic.

    ConfigError for an unknown statistic or direction, or a target that is not finite.
    """

    statistic: str
    direction: Direction = "more"
    target: float = 0.0

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ConfigError(
                f"statistic: {quoted(self.statistic)} is not known: choose one of {', '.join(STATISTICS)}"
            )
        if self.direction not in get_args(Direction):
            raise ConfigError(
                f"direction: {quoted(self.direction)} is not known: choose one of {', '.join(get_args(Direction))}"
            )
        if not math.isfinite(self.target):
            raise ConfigError(f"target: {self.target} is not finite: give the {self.statistic} that you want")

    @property
    def name(self) -> str:
        """The name of the statistic."""
        return self.statistic

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32; the prompts do not matter."""
        values = STATISTICS[self.statistic](images[..., :3].float())
        if self.direction == "near":
            return -(values - self.target).abs()
        return values if self.direction == "more" else -values

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        settings: dict[str, object] = {"direction": self.direction}
        return settings | ({"target": self.target} if self.direction == "near" else {})
