"""HPSv2.1 (arXiv 2306.09341): human preference, a ViT-H-14 CLIP trained further on people's choices.

r = <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          about 0.2 to 0.4; without CLIP's factor

Images are scaled to 224 on their longer side and padded with black, as the authors' image_transform(resize_longest_max=True) does.
Trained on alone it makes images oily, bright and saturated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .networks.clip import Clip
from .networks.clip_config import read_config
from .networks.compute import ON_CPU, Compute
from .networks.preprocess import Preprocess
from .networks.weight_files import file_record

FILE = "HPS_v2.1_compressed.pt"
SOURCE = "xswu/HPSv2"


class HPSv2:
    """weights: HPS_v2.1_compressed.pt, or HPS_v2_compressed.pt of the version before."""

    name = "hps"

    def __init__(self, weights: Path, compute: Compute = ON_CPU) -> None:
        what = f"HPSv2.1 (ViT-H-14): choose {FILE} of {SOURCE}"
        self._clip = Clip(
            weights, read_config("ViT-H-14"), Preprocess((224, 224), resize="longest"), compute, "checkpoint", what
        )
        self._described = {"weights": file_record(weights), "precision": compute.precision}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) cosines."""
        return self._clip.cosines(images, prompts)
