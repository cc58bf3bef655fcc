"""Images as 8-bit pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor


def eight_bit(images: Tensor) -> np.ndarray:
    """(..., 3) in [0, 1] -> uint8, each value rounded to the nearest of 256."""
    return (images.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def picture(image: Tensor) -> Image.Image:
    """(H, W, 3 or more) in [0, 1] -> an RGB picture."""
    return Image.fromarray(np.ascontiguousarray(eight_bit(image[..., :3])))


def encoded(image: Tensor, format: str, **options: int) -> bytes:
    """The picture as a file of that format, such as JPEG with quality=95."""
    file = io.BytesIO()
    picture(image).save(file, format, **options)
    return file.getvalue()
