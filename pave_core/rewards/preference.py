"""What people prefer, in small: the bundled preference model, which stands for HPS on the bundled tiny model.

    s(image, prompt) = MLP([sqrt(D) f, sqrt(D) g, D f * g])         f, g: unit features (D,) of the bundled tiny CLIP

trained on pairs of images of one prompt by the model of Bradley and Terry (1952), as reward models are:

    P(a is preferred to b) = sigmoid(s(a, prompt) - s(b, prompt))

tools/make_tiny.py draws the pairs: a right colour or shape is preferred to a wrong one, a clean shape to a malformed
one, a large one to a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .networks.clip import Clip
from .networks.clip_config import preprocess_of, read_config
from .networks.compute import ON_CPU, Compute
from .networks.network import empty_weights, load_into
from .networks.weight_files import file_record, read_weights

_REBUILT = "reinstall the pack, or run tools/make_tiny.py"


class PreferenceHead(nn.Module):
    """Unit features of images (N, D) and of their prompts (N, D) -> s (N,)."""

    def __init__(self, features: int = 64, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * features, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self._scale = features**0.5  # to unit variance

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        f, g = self._scale * image, self._scale * text
        return self.layers(torch.cat((f, g, f * g), 1))[:, 0]


class TinyPreference:
    """The preference model as a reward.

    head: its safetensors file. clip, architecture: the bundled CLIP's file and config. ConfigError where one does not
    fit.
    """

    name = "preference"

    def __init__(self, head: Path, clip: Path, architecture: Path, compute: Compute = ON_CPU) -> None:
        config = read_config(architecture)
        prepare, what = preprocess_of(config), f"the bundled tiny CLIP: {_REBUILT}"
        self._clip = Clip(clip, config, preprocess=prepare, compute=compute, field="clip", what=what)
        with empty_weights():
            self._head = PreferenceHead()
        what = f"the bundled preference model: {_REBUILT}"
        load_into(self._head, read_weights(head, "head"), dtype=torch.float32, field="head", path=head, what=what)
        self._described = {"clip": file_record(clip), "head": file_record(head), "precision": compute.precision}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32; only differences have a meaning."""
        return self._head(*self._clip.features(images, prompts))
