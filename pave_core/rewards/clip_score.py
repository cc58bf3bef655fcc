"""CLIP score (arXiv 2104.08718): the cosine between the features of an image and its prompt, by any open_clip model.

r = <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          in [-1, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .networks.clip import Clip
from .networks.clip_config import preprocess_of, read_config
from .networks.compute import ON_CPU, Compute
from .networks.weight_files import file_record


class CLIPScore:
    """CLIP score as a reward. weights, architecture: as of load_open_clip."""

    name = "clip"

    def __init__(self, weights: Path, architecture: str | Path, compute: Compute = ON_CPU) -> None:
        self._clip = load_open_clip(weights, architecture, compute)
        self._described = describe_open_clip(weights, architecture, compute)

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32 cosines."""
        return self._clip.cosines(images, prompts)


def load_open_clip(weights: Path, architecture: str | Path, compute: Compute) -> Clip:
    """The open_clip model of a file.

    weights: a file with open_clip's, OpenAI's or Hugging Face's (CLIPModel) names. architecture: the name of an
    open_clip config such as "ViT-L-14-quickgelu", or the path of a config JSON in open_clip's format; images are
    prepared as it says. ConfigError where the two do not fit.
    """
    config = read_config(architecture)
    what = (
        f"this CLIP architecture ({Path(architecture).stem}): choose the architecture of the file; OpenAI's "
        "weights need one that ends in -quickgelu"
    )
    prepare = preprocess_of(config)
    return Clip(weights, config, preprocess=prepare, compute=compute, field="checkpoint", what=what)


def describe_open_clip(weights: Path, architecture: str | Path, compute: Compute) -> dict[str, object]:
    """The same for recipes: files, without their folders, and settings."""
    return {
        "weights": file_record(weights),
        "architecture": Path(architecture).name,
        "precision": compute.precision,
    }
