"""How well an image compresses: the size of its JPEG at quality 95 (DDPO, arXiv 2305.13301, section 5).

r = -kB for small files (compressibility), kB for large files (incompressibility)          kB: 1000 bytes

A test that training works, not a preference: small files end in flat images, large ones in noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ConfigError, quoted
from ..images import encoded

Prefer = Literal["small files", "large files"]
QUALITY = 95


@dataclass(frozen=True)
class JPEGSize:
    """The size of the JPEG as a reward. prefer: "small files" or "large files"; ConfigError for anything else."""

    prefer: Prefer = "small files"

    name = "jpeg size"

    def __post_init__(self) -> None:
        if self.prefer not in get_args(Prefer):
            raise ConfigError(
                f"prefer: {quoted(self.prefer)} is not known: choose one of {', '.join(get_args(Prefer))}"
            )

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32, in kB; the prompts do not matter."""
        sign = -1 if self.prefer == "small files" else 1
        return torch.tensor([sign * len(encoded(image, "JPEG", quality=QUALITY)) / 1000 for image in images])

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return asdict(self)
