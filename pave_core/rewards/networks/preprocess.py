"""Images as a network was trained to see them: 8-bit, resized by Pillow, cropped or padded, normalised.

    pixels = (resize(round(255 image)) / 255 - mean) / std

The published pipelines resize 8-bit Pillow images; an interpolation of floats gives other pixels, and so other scores.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, quoted
from ...images import eight_bit

Colour = tuple[float, float, float]
Resize = Literal["shortest", "squash", "longest"]

CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """How a network's images are prepared. ConfigError for an unknown resize or interpolation.

    size: (height, width) in pixels. mean, std: those of red, green and blue, on [0, 1].
    resize: "shortest" scales the shorter edge to the size and crops the centre; "squash" scales both and distorts;
    "longest" scales the longer edge and pads with black.
    crop_rounding: where the crop begins if the remainder is odd; "even" rounds half to even as torchvision does,
    "down" rounds down as transformers does.
    """

    size: tuple[int, int]
    _: KW_ONLY
    mean: Colour = CLIP_MEAN
    std: Colour = CLIP_STD
    resize: Resize = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_rounding: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        if self.resize not in get_args(Resize):
            raise ConfigError(
                f"resize_mode: {quoted(self.resize)} is not known: the config must say one of "
                f"{', '.join(get_args(Resize))}"
            )
        if self.interpolation not in ("bicubic", "bilinear"):
            raise ConfigError(
                f"interpolation: {quoted(self.interpolation)} is not known: the config must say bicubic or bilinear"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """images (n, H, W, 3) in [0, 1] -> (n, 3, height, width) fp32 on the CPU."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        fitted = np.stack([self._fit(image) for image in eight_bit(images)])  # (n, height, width, 3)
        return (torch.from_numpy(fitted).movedim(-1, 1).float() / 255 - mean) / std

    def _fit(self, image: Any) -> Any:
        """(H, W, 3) uint8 -> (height, width, 3) uint8."""
        from PIL import Image

        height, width = self.size
        new_height, new_width = self._resized(*image.shape[:2])
        method = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        pixels = np.asarray(Image.fromarray(image).resize((new_width, new_height), method))
        top, left = self._corner(new_height - height), self._corner(new_width - width)
        pixels = pixels[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[max(-top, 0) :, max(-left, 0) :][: pixels.shape[0], : pixels.shape[1]] = pixels
        return canvas

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image is scaled to, before it is cropped or padded."""
        if self.resize == "squash":
            return self.size
        if self.resize == "shortest" and self.size[0] == self.size[1]:
            edge = self.size[0]
            return (edge, edge * width // height) if height <= width else (edge * height // width, edge)
        pick = max if self.resize == "longest" else min
        ratio = pick(height / self.size[0], width / self.size[1])
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _corner(self, excess: int) -> int:
        """Where the centre begins in an edge that is `excess` pixels too long; minus the padding if negative."""
        if excess < 0:
            return -(-excess // 2)
        return round(excess / 2) if self.crop_rounding == "even" else excess // 2
