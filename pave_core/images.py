"""From images, float tensors in [0, 1], to 8-bit pictures and picture files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SMALLEST = 32
"""Pixels of the longer side of a thumbnail, at the least."""
MAX_PIXELS = 2**26
"""Of a picture file that is read."""


def eight_bit(images: Tensor) -> np.ndarray:
    """Values in [0, 1], of any shape -> uint8, each rounded to the nearest of 256; values of 8 bits as they are."""
    if images.dtype == torch.uint8:
        return images.cpu().numpy()
    return (images.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def picture(image: Tensor) -> Image.Image:
    """image (H, W, 3 or more) in [0, 1] -> a Pillow image, RGB."""
    return Image.fromarray(np.ascontiguousarray(eight_bit(image[..., :3])))


def encoded(image: Tensor, format: str, **options: int) -> bytes:
    """image (H, W, 3 or more) in [0, 1] -> the bytes of a file in `format`, such as JPEG with quality=95."""
    return _file(picture(image), format, **options)


def _file(image: Image.Image, format: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def thumbnail(image: Tensor, side: int, most: int) -> bytes:
    """image (H, W, 3) in [0, 1] or in 8 bits -> a JPEG of at most `side` pixels a side, and of at most `most` bytes as
    long as that can be had with 32 pixels.
    """
    return _small(picture(image), side, most)


def thumbnail_of(file: Path, side: int, most: int) -> bytes | None:
    """The same of a picture file; None where it is none that can be read, or has more than MAX_PIXELS."""
    try:
        with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return None
            return _small(opened.convert("RGB"), side, most)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # whatever Pillow raises of damaged ones
        return None


def _small(whole: Image.Image, side: int, most: int) -> bytes:
    while True:
        small = whole.copy()
        small.thumbnail((side, side))
        file = _file(small, "JPEG", quality=85)
        if len(file) <= most or side <= SMALLEST:
            return file
        side = max(SMALLEST, side * 3 // 4)
