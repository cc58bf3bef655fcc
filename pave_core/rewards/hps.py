"""HPSv2.1 (arXiv 2306.09341): human preference, by a ViT-H-14 CLIP fine-tuned on people's choices.

r = <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          about 0.2 to 0.4; not scaled by exp(logit_scale)

Images are scaled to 224 on their longer side and padded with black, as the authors' own
image_transform(resize_longest_max=True) does. A model trained on this alone makes oily, bright, saturated images.
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
    """HPSv2.1 as a reward.

    weights: HPS_v2.1_compressed.pt, or HPS_v2_compressed.pt of the version before. ConfigError for another file.
    """

    name = "hps"

    def __init__(self, weights: Path, compute: Compute = ON_CPU) -> None:
        what = f"HPSv2.1 (ViT-H-14): choose {FILE} of {SOURCE}"
        config, prepare = read_config("ViT-H-14"), Preprocess((224, 224), resize="longest")
        self._clip = Clip(weights, config, preprocess=prepare, compute=compute, field="checkpoint", what=what)
        self._described = {"weights": file_record(weights), "precision": compute.precision}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32 cosines."""
        return self._clip.cosines(images, prompts)
