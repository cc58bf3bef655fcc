"""The recipe of a LoRA: everything that is needed to train it again, as JSON in the file's own header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..config.train import TrainConfig
from ..errors import ConfigError
from .checkpoint import write_atomically

RECIPE_KEY = "pave_recipe"


class LoraWeights(dict[str, Tensor]):
    """A LoRA as the host's LORA_MODEL (a dict of tensors) that carries its recipe with it."""

    def __init__(self, weights: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> None:
        super().__init__(weights)
        self.recipe = dict(recipe)


def save_lora(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a LoRA to `path` (.safetensors), with its recipe in the header if it has one."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save({key: value.contiguous() for key, value in weights.items()}, metadata=metadata))


def load_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a LoRA's header. ConfigError where the file can not be read or holds none."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(RECIPE_KEY)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"lora: {path.name} can not be read as safetensors ({error}): choose a .safetensors LoRA") from error
    if text is None:
        raise ConfigError(f"lora: {path.name} holds no recipe: it was not saved by this pack, or another program removed it; choose another file")
    try:
        recipe = json.loads(text)
        TrainConfig.from_dict(recipe["config"])
        return recipe
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"lora: the recipe in {path.name} is damaged or of a newer version ({error}): choose another file") from error


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe for a person, as Markdown lists: one setting a line, in groups."""
    versions = f"pack {recipe.get('pack', '?')}, ComfyUI {recipe.get('comfyui', '?')}"
    lines = [f"- {recipe.get('method', 'Pave-GRPO')}, {recipe.get('step', '?')} steps, {versions}"]
    lines += _lines({group: recipe.get(group) for group in ("config", "sampling", "reward", "judge", "prompts", "held_out")})
    return "\n".join(lines)


def _lines(values: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}- {name}", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(item, str) for item in value):
            lines += [f"{indent}- {name}", *(f"{indent}  - {item}" for item in value)]
        else:
            lines.append(f"{indent}- {name}: {value if isinstance(value, str) else json.dumps(value)}")
    return lines
