"""LoRA files as the host's loaders read them, with the recipe and what LoRA managers look for in the header.

The keys are those of ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec) and of kohya-ss/sd-scripts (ss_...), which
LoRA Manager and others read. What is not known is left out: a base model that has no name among them, trigger words,
which a LoRA of this pack does not have.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ..files import write_atomically
from ..images import thumbnail
from .architecture import VERSIONS

RECIPE_KEY = "pave_recipe"
COMFYUI = "https://github.com/comfyanonymous/ComfyUI"
"""modelspec.implementation: the program whose keys the file has."""
THUMBNAIL, THUMBNAIL_BYTES = 256, 60_000
"""The pixels of a side, as the specification asks for, and the bytes of modelspec.thumbnail at most."""


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
    tensors = {key: value.contiguous() for key, value in weights.items()}
    metadata = {"format": "pt"}
    if isinstance(weights, LoraWeights):
        metadata |= metadata_of(path.stem, weights) | {"modelspec.hash_sha256": digest(save(tensors))}
    write_atomically(path, save(tensors, metadata=metadata))


def digest(file: bytes) -> str:
    """modelspec.hash_sha256 of a safetensors file: of what follows its header, which is the same whatever that says."""
    header = 8 + int.from_bytes(file[:8], "little")
    return f"0x{hashlib.sha256(memoryview(file)[header:]).hexdigest()}"


def metadata_of(name: str, weights: LoraWeights) -> dict[str, str]:
    """The recipe of a LoRA, and what managers show of it, as metadata of a file called `name`."""
    recipe = weights.recipe
    lora, sampling, architecture = recipe["config"]["lora"], recipe.get("sampling", {}), recipe.get("architecture")
    found = {
        RECIPE_KEY: json.dumps(recipe),
        "ss_output_name": name,
        "ss_network_dim": str(lora["rank"]),
        "ss_network_alpha": str(lora["alpha"]),
        "modelspec.title": name,
        "modelspec.description": "Trained by Pave-GRPO, which has no captions and so no trigger words.",
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.tags": "pave-grpo, reinforcement learning",
    }
    if "step" in recipe:
        found["ss_steps"] = str(recipe["step"])
    if "width" in sampling and "height" in sampling:
        found["modelspec.resolution"] = f"{sampling['width']}x{sampling['height']}"
    if architecture in VERSIONS:
        found |= {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": f"{architecture}/lora",
            "modelspec.implementation": COMFYUI,
            "ss_base_model_version": VERSIONS[architecture],
        }
    if weights.preview is not None:
        picture = base64.b64encode(thumbnail(weights.preview, THUMBNAIL, THUMBNAIL_BYTES)).decode("ascii")
        found["modelspec.thumbnail"] = f"data:image/jpeg;base64,{picture}"
    return found
