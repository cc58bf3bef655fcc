"""How beautiful an image is, whatever its prompt: a small head on the features of a large image network.

r = head(f / |f|)

v2    f (768,): OpenAI's CLIP ViT-L/14        r about 0 to 10                       LAION, improved-aesthetic-predictor
v2.5  f (1152,): SigLIP so400m/14 at 384      r about 1 to 10, above 5.5 great      discus0434, aesthetic-predictor-v2-5

Neither head has an activation function, so that both are affine in the direction of f, and easy to hack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..packages import needed
from .networks.clip import build, read_clip
from .networks.clip_config import read_config
from .networks.compute import ON_CPU, Compute
from .networks.network import empty_weights, load_into, mlp
from .networks.preprocess import Preprocess
from .networks.weight_files import file_record, read_weights, within, without_positions

HEAD = "sac+logos+ava1-l14-linearMSE.pth"
HEAD_SOURCE = "christophschuhmann/improved-aesthetic-predictor"
CLIP_FILE = "model.safetensors"
CLIP_SOURCE = "openai/clip-vit-large-patch14"
HEAD_V25 = "aesthetic_predictor_v2_5.pth"
HEAD_V25_SOURCE = "discus0434/aesthetic-predictor-v2-5, folder models"
SIGLIP_FILE = "model.safetensors"
SIGLIP_SOURCE = "google/siglip-so400m-patch14-384"

_SIGLIP: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


class Aesthetic:
    """LAION's aesthetic predictor v2.

    clip: a file with ViT-L/14's image half, by open_clip's or Hugging Face's names. head: the .pth file. ConfigError
    where a file does not fit.
    """

    name = "aesthetic v2"

    def __init__(self, clip: Path, head: Path, compute: Compute = ON_CPU) -> None:
        what = f"the aesthetic head v2: choose {HEAD} of {HEAD_SOURCE}"
        layers = _load_head(head, "layers.", width=768, places=(0, 2, 4, 6, 7), what=what)
        config = read_config("ViT-L-14-quickgelu")
        what = f"OpenAI's CLIP ViT-L/14: choose {CLIP_FILE} of {CLIP_SOURCE}"
        state = within(read_clip(clip, "clip_weights", config, what), "visual.")
        tower = build(config).visual
        assert isinstance(tower, nn.Module)
        load_into(tower, state, dtype=compute.dtype, field="clip_weights", path=clip, what=what)
        self._described = {"clip": file_record(clip), "head": file_record(head), "precision": compute.precision}
        self._scorer = _Scorer(_Aesthetic(tower, lambda features: features, layers), Preprocess((224, 224)), compute)

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32; the prompts do not matter."""
        return self._scorer.score(images)


class AestheticV25:
    """Aesthetic predictor v2.5.

    siglip: the whole model's file or its image half, by Hugging Face's names. head: the .pth file. ConfigError where a
    file does not fit.
    """

    name = "aesthetic v2.5"

    def __init__(self, siglip: Path, head: Path, compute: Compute = ON_CPU) -> None:
        with needed("siglip_weights", "transformers"):
            from transformers import SiglipVisionConfig, SiglipVisionModel

        what = f"the aesthetic head v2.5: choose {HEAD_V25} of {HEAD_V25_SOURCE}"
        layers = _load_head(head, "scoring_head.", width=1152, places=(0, 2, 4, 6, 8), what=what)
        state = without_positions(within(read_weights(siglip, "siglip_weights"), "vision_model."))
        with empty_weights():
            tower = SiglipVisionModel(SiglipVisionConfig(**_SIGLIP))
        network = getattr(tower, "vision_model", tower)  # transformers before 5 has the network one level deeper
        what = f"SigLIP so400m/14 at 384: choose {SIGLIP_FILE} of {SIGLIP_SOURCE}"
        load_into(network, state, dtype=compute.dtype, field="siglip_weights", path=siglip, what=what)
        self._described = {"siglip": file_record(siglip), "head": file_record(head), "precision": compute.precision}
        prepare = Preprocess((384, 384), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="squash")
        self._scorer = _Scorer(_Aesthetic(tower, lambda output: output.pooler_output, layers), prepare, compute)

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32; the prompts do not matter."""
        return self._scorer.score(images)


class _Aesthetic(nn.Module):
    """A tower and its head: pixels (n, 3, h, w) -> (n,). pooled: from the tower's output to f (n, width)."""

    def __init__(self, tower: nn.Module, pooled: Callable[[Any], Tensor], head: nn.Module) -> None:
        super().__init__()
        self.tower, self.head = tower, head
        self._pooled = pooled

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(F.normalize(self._pooled(self.tower(pixels)).float(), dim=-1))[:, 0]


class _Scorer:
    """A network that scores images, and is on the device only while it does."""

    def __init__(self, network: nn.Module, preprocess: Preprocess, compute: Compute) -> None:
        self._network, self._preprocess, self._compute = network, preprocess, compute

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32 on the CPU."""
        with self._compute.placement(self._network) as device:

            def scored(part: Tensor) -> Tensor:
                return self._network(self._preprocess(part).to(device, self._compute.dtype))

            return self._compute.batches.map(scored, images).cpu()


def _load_head(path: Path, prefix: str, *, width: int, places: Sequence[int], what: str) -> nn.Module:
    """The head in a file, in fp32, from its tensors below `prefix`. width, places: as in mlp; what: as in load_into."""
    with empty_weights():
        head = mlp(width, places)
    state = within(read_weights(path, "checkpoint"), prefix)
    load_into(head, state, dtype=torch.float32, field="checkpoint", path=path, what=what)
    return head
