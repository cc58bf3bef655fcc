"""The recipe of a run: everything that is needed to train its LoRA again, as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .. import __version__
from ..config.train import TrainConfig
from ..errors import ConfigError, shortened
from ..files import require_header
from ..policies.lora_file import RECIPE_KEY
from ..scoring.score import describe
from ..types import RunPolicy
from .settings import Task

SCORED_BY_NODES = "scored by nodes of the graph"
VERSIONS = ("pack", "comfyui")
"""Keys of a recipe that a resumed run need not match."""
FREE = ("iterations", "checkpoint_every", "batch_size", "memory")
"""Settings that a resumed run need not match: they do not change what is learnt in a step."""


def recipe_of(policy: RunPolicy, task: Task, base: str) -> dict[str, Any]:
    """The recipe of a task; `base` is the fingerprint of the base model."""
    return {
        "pack": __version__,
        "method": "Pave-GRPO (arXiv 2606.01636)",
        "model": base,
        "config": task.config.to_dict(),
        "reward": SCORED_BY_NODES if task.reward is None else task.reward.describe(),
        "judge": None if task.judge is None else describe(task.judge),
        "guard": None if task.settings.guard is None else task.settings.guard.to_dict(),
        "prompts": list(task.prompts.train),
        "held_out": list(task.prompts.held_out),
        **policy.describe(),
    }


def check_recipe(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """ConfigError about the first setting in which a checkpoint's recipe, `saved`, differs from this run's, `now`.

    VERSIONS and FREE settings may differ. A setting that the checkpoint's version did not have counts as its default.
    """
    saved, now = ({key: value for key, value in recipe.items() if key not in VERSIONS} for recipe in (saved, now))
    if "config" in saved:
        saved["config"] = TrainConfig.from_dict(saved["config"]).to_dict()
    saved, now = json.loads(json.dumps([saved, now]))
    _check_equal(saved, now, "")


def load_recipe(path: Path) -> dict[str, Any]:
    """The recipe in the header of a LoRA file. ConfigError if the file cannot be read or holds no valid recipe."""
    require_header(path, "lora")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(RECIPE_KEY)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"lora: {path.name} cannot be read as safetensors ({error}): choose a .safetensors LoRA"
        ) from error
    if text is None:
        raise ConfigError(
            f"lora: {path.name} holds no recipe: it was not saved by this pack, or another program removed it; choose "
            "another file"
        )
    try:
        recipe = json.loads(text)
        TrainConfig.from_dict(recipe["config"])
        return recipe
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"lora: the recipe in {path.name} is damaged or of a newer version ({error}): choose another file"
        ) from error


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe for people to read: nested Markdown lists, one setting per line."""
    versions = f"pack {recipe.get('pack', '?')}, ComfyUI {recipe.get('comfyui', '?')}"
    lines = [f"- {recipe.get('method', 'Pave-GRPO')}, {recipe.get('step', '?')} steps, {versions}"]
    groups = ("config", "sampling", "reward", "judge", "prompts", "held_out")
    return "\n".join([*lines, *_lines({group: recipe.get(group) for group in groups})])


def _check_equal(saved: Any, now: Any, where: str) -> None:
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        for key in sorted(saved.keys() | now.keys()):
            if key not in FREE:
                _check_equal(saved.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif saved != now:
        if where == "model":
            raise ConfigError(
                "model: the checkpoint was made with another base model: connect the model that the run began with, or "
                "set resume to none"
            )
        was, new = (shortened(json.dumps(value), 80) for value in (saved, now))
        raise ConfigError(
            f"{where}: the checkpoint was made with {was}, now it is {new}: set it back, or set resume to none"
        )


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
