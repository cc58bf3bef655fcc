"""A digest that identifies a base model, in every dtype that it is loaded in.

Of each matrix the shape and the signs of the first values count. Signs survive what is done to a file's weights:
casting (also to fp8, where small negative values become -0), scales kept beside them, loading in parts. Names do not
count, since hosts rename layers; nor does what is no matrix, such as the scales of scaled fp8. Of weights that are
stored as whole numbers (GGUF, 4 bits) the bytes count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from torch import Tensor

VALUES = 1024  # of each matrix
STORED = ("_qdata", "qdata")
"""Where quantised tensors have their numbers: those of ComfyUI, those of torchao."""


def digest_of(weights: Iterable[Tensor]) -> Any:
    """A digest, as hashlib has them, of the matrices among some weights, in whatever order."""
    return hashlib.blake2b(
        b"".join(sorted(_of_matrix(each) for each in weights if len(each.shape) > 1)), digest_size=16
    )


def _of_matrix(weight: Tensor) -> bytes:
    whole = next((getattr(weight, name) for name in STORED if hasattr(weight, name)), weight)
    stored = whole.data.flatten()[:VALUES].cpu()
    bits = stored.float().signbit() if stored.is_floating_point() else stored
    return hashlib.blake2b(f"{tuple(weight.shape)}".encode() + bits.numpy().tobytes(), digest_size=16).digest()
