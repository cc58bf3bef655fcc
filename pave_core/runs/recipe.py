"""The recipe of a run: everything that is needed to train its LoRA again, as plain JSON values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .. import __version__
from ..config.train import TrainConfig
from ..errors import ConfigError, quoted, shortened
from ..files import require_header
from ..policies.lora_file import RECIPE_KEY
from ..rollout.prompts import PromptSet
from ..scoring.score import describe
from ..training.steering import ORDERS
from ..types import RunPolicy
from .settings import Task

SCORED_BY_NODES = "scored by nodes of the graph"
STEERED = "steered"
"""The key of what was ordered in a run, and at which step; only a run that was steered has it."""
VERSIONS = ("pack", "comfyui", "architecture", STEERED)
"""Keys of a recipe that a resumed run need not match."""
FREE = ("iterations", "checkpoint_every", "batch_size", "memory", "alone_after", "sure")
"""Settings that a resumed run need not match: they do not change what is learnt in a step, or (the last two) only say
when a person need not be asked any more.
"""
MAX_RECIPE = 8_000_000
"""The most characters of a recipe as JSON: ten thousand prompts of some hundred words."""
_LIVE = re.compile(r"[\\`<>\[\]]")
"""With what code, HTML, links and images begin and end in Markdown."""
MAX_LINE, MAX_LINES, MAX_DEPTH = 500, 1000, 6
"""Of a recipe's text: the most characters of a value, the most entries of a list and the most levels of lists."""


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
    ConfigError for a recipe that is damaged, too.
    """
    try:
        saved = _mapping("recipe", saved)
        saved = dict(saved) | {"config": config_of(saved).to_dict()}
        saved, now = json.loads(json.dumps([saved, now]))
    except (ConfigError, RecursionError, TypeError) as error:
        raise ConfigError(
            f"resume: the recipe in the checkpoint is damaged ({error}): set resume to none, or to another run"
        ) from error
    kept, asked = ({key: value for key, value in recipe.items() if key not in VERSIONS} for recipe in (saved, now))
    _check_equal(kept, asked, "")


def load_recipe(path: Path) -> Mapping[str, Any]:
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
        if len(text) > MAX_RECIPE:
            raise ConfigError(f"recipe: {len(text)} characters are more than {MAX_RECIPE}")
        recipe = _mapping("recipe", json.loads(text))
        config_of(recipe)
        prompts_of(recipe)
        return recipe
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"lora: the recipe in {path.name} is damaged or of a newer version ({error}): choose another file"
        ) from error


def steered_in(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was ordered in the run so far, as Run writes it; entries of another form are left out."""
    found = recipe.get(STEERED)
    known = isinstance(found, list)
    return [dict(each) for each in found if isinstance(each, Mapping) and _is_entry(each)] if known else []


def _is_entry(entry: Mapping[str, Any]) -> bool:
    return type(entry.get("step")) is int and entry.get("order") in ORDERS


def config_of(recipe: Mapping[str, Any]) -> TrainConfig:
    """The settings in a recipe. ConfigError, with the field, for what is none or has a wrong value."""
    return TrainConfig.from_dict(_mapping("config", recipe.get("config")))


def prompts_of(recipe: Mapping[str, Any]) -> PromptSet:
    """The prompts in a recipe. ConfigError for anything but lists of texts (see PromptSet), or none to train on."""
    train, held_out = (recipe.get(name) for name in ("prompts", "held_out"))
    if not isinstance(train, list) or not isinstance(held_out, list) or not train:
        raise ConfigError("prompts: the recipe has no list of prompts, or none of held-out prompts")
    return PromptSet(tuple(train), tuple(held_out))


def sampling_of(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a recipe says of the policy's images. ConfigError where it says nothing."""
    return _mapping("sampling", recipe.get("sampling"))


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {quoted(value)} is not a group of settings: choose a file that this pack wrote")
    return value


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe for people to read: nested Markdown lists, one setting per line.

    It may be a stranger's: what is long is cut, control characters are left out, and what Markdown would take for an
    image, a link or HTML is escaped.
    """
    said = {name: recipe.get(name, "?") for name in ("pack", "comfyui", "step")} | {"method": recipe.get("method")}
    pack, comfyui, step, method = (_plain(value) for value in said.values())
    lines = [f"- {method if said['method'] else 'Pave-GRPO'}, {step} steps, pack {pack}, ComfyUI {comfyui}"]
    groups = ("config", "sampling", "reward", "judge", "prompts", "held_out", *({STEERED} & recipe.keys()))
    return "\n".join([*lines, *_lines({group: recipe.get(group) for group in groups})])


def _check_equal(saved: Any, now: Any, where: str) -> None:
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        for key in sorted(saved.keys() | now.keys()):
            if key not in FREE:
                name = quoted(key).strip("'")
                _check_equal(saved.get(key), now.get(key), f"{where}.{name}" if where else name)
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


def _lines(values: Mapping[str, Any], depth: int = 0) -> list[str]:
    lines, indent = [], "  " * depth
    for name, value in list(values.items())[:MAX_LINES]:
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            lines += [f"{indent}- {_plain(name)}", *_lines(value, depth + 1)]
        elif isinstance(value, list) and any(isinstance(item, str) for item in value):
            lines += [f"{indent}- {_plain(name)}", *(f"{indent}  - {_plain(item)}" for item in value[:MAX_LINES])]
            if len(value) > MAX_LINES:
                lines.append(f"{indent}  - and {len(value) - MAX_LINES} more")
        else:
            lines.append(f"{indent}- {_plain(name)}: {_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    """A value of a recipe in one line of Markdown that shows it and does nothing else."""
    if value is None or isinstance(value, int | float):
        return json.dumps(value)
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return shortened(json.dumps(value), MAX_LINE)
    text = shortened(value, MAX_LINE) if isinstance(value, str) else quoted(value)
    return _LIVE.sub(r"\\\g<0>", "".join(letter if letter.isprintable() else " " for letter in text))
