"""LoRA files as the host's loaders read them, with the recipe in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ..files import write_atomically

RECIPE_KEY = "pave_recipe"


class LoraWeights(dict[str, Tensor]):
    """A LoRA as the host's LORA_MODEL, a dict of tensors, that also carries its recipe, and an image (H, W, 3) that was
    drawn with it; None where none was.
    """

    def __init__(self, weights: Mapping[str, Tensor], recipe: Mapping[str, Any], preview: Tensor | None = None) -> None:
        super().__init__(weights)
        self.recipe, self.preview = dict(recipe), preview


def preview_file(lora: Path) -> Path:
    """Where those who list LoRAs with pictures look for that of a file."""
    return lora.with_suffix(".png")


def save_lora(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a LoRA to `path` (.safetensors), with its recipe in the header if it has one.

    WriteError if the disk refuses.
    """
    metadata = {"format": "pt"}
    if isinstance(weights, LoraWeights):
        recipe = weights.recipe
        metadata |= {
            RECIPE_KEY: json.dumps(recipe),
            "ss_output_name": path.stem,
            "ss_network_dim": str(recipe["config"]["lora"]["rank"]),
            "ss_network_alpha": str(recipe["config"]["lora"]["alpha"]),
            "modelspec.title": path.stem,
        }
    write_atomically(path, save({key: value.contiguous() for key, value in weights.items()}, metadata=metadata))
