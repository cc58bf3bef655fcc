"""PickScore v1 (arXiv 2305.01569): which image people would pick, by a ViT-H-14 CLIP fine-tuned on Pick-a-Pic.

r = exp(logit_scale) <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          about 17 to 25

The file is Hugging Face's CLIPModel; its tensors run in open_clip's network of the same architecture, and images are
prepared as transformers' CLIPImageProcessor does.
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

FILE = "model.safetensors"
SOURCE = "yuvalkirstain/PickScore_v1"


class PickScore:
    """PickScore as a reward.

    weights: model.safetensors of yuvalkirstain/PickScore_v1, under any name. ConfigError for another file.
    """

    name = "pickscore"

    def __init__(self, weights: Path, compute: Compute = ON_CPU) -> None:
        what = f"PickScore v1 (ViT-H-14): choose {FILE} of {SOURCE}"
        config, prepare = read_config("ViT-H-14"), Preprocess((224, 224), crop_rounding="down")
        self._clip = Clip(weights, config, preprocess=prepare, compute=compute, field="checkpoint", what=what)
        self._described = {"weights": file_record(weights), "precision": compute.precision}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32."""
        return self._clip.scale * self._clip.cosines(images, prompts)
