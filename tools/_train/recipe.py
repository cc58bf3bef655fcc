"""The recipe of a headless run: what a LoRA or a run's folder carries, and what a program must be told besides.

A recipe is a JSON object. Its keys are those of a LoRA's recipe (pave_core/runs/recipe.py) and, of its own:

files       where the model is: {"bundled": true}; {"checkpoint": NAME}; or {"diffusion_model": NAME, "vae": NAME,
            "text_encoders": [NAMES], "clip_type": TYPE, "weight_dtype": TYPE}, names as the host's loaders list them;
            or {"diffusers": FOLDER, "precision": TYPE}. Without it: the bundled model
run         the settings of RunSettings: name, evaluation_seeds, evaluate_every, check_reward, check_gradient
processes   {"shard": "prompts" | "branches" | "both", "timeout": SECONDS}, for several processes
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from _cuda.host import pack_module

errors = pack_module("pave_core.errors")
recipes = pack_module("pave_core.runs.recipe")
ConfigError, quoted = errors.ConfigError, errors.quoted
GuardConfig = pack_module("pave_core.evaluation.guard").GuardConfig
RunSettings = pack_module("pave_core.runs.settings").RunSettings
Sharding = pack_module("pave_core.training.processes").Sharding
require_plain = pack_module("pave_core.files").require_plain
load_checkpoint = pack_module("pave_core.runs.checkpoint").load_checkpoint
VERSION: str = pack_module("pave_core").__version__

FILE = "recipe.json"
"""In a run's folder: the recipe that it was begun with."""
CARRIED = (
    *("pack", "comfyui", "method", "step", "model", "config", "reward", "judge", "guard", "prompts", "held_out"),
    *("sampling", "pipeline", "architecture", "steered"),
)
OWN = ("files", "run", "processes")
RUN: tuple[str, ...] = pack_module("pave_core.runs.settings").IN_RECIPES
FILES = (
    "bundled",
    "checkpoint",
    "diffusion_model",
    "weight_dtype",
    "text_encoders",
    "clip_type",
    "vae",
    "diffusers",
    "precision",
)


@dataclass(frozen=True)
class Recipe:
    """A recipe whose settings have been checked; its rewards and files have not."""

    values: Mapping[str, Any]  # as they were read
    config: Any  # a TrainConfig
    prompts: Any  # a PromptSet
    sampling: Mapping[str, Any]
    files: Mapping[str, Any]
    sharding: Any  # a Sharding

    @property
    def base(self) -> str | None:
        """The fingerprint of the base model that it was made with; None: any model."""
        return self.values.get("model")

    @property
    def of_pipeline(self) -> bool:
        """Whether it trains a diffusers pipeline."""
        return "diffusers" in self.files or "pipeline" in self.values

    def settings(self, resume: str) -> Any:
        """The RunSettings, without a guard."""
        run = self.values.get("run", {})
        return RunSettings(**run, resume=resume, iterations=self.config.run.iterations)

    def guard(self) -> tuple[Any, Any] | None:
        """(the GuardConfig, the description of its reward or None) of its guard; None without one."""
        said = self.values.get("guard")
        if said is None:
            return None
        thresholds = [each.name for each in fields(GuardConfig)]
        only("guard", said, [*thresholds, "held_out"])
        return GuardConfig(**{name: said[name] for name in thresholds if name in said}), said.get("held_out")


def read(path: Path) -> Recipe:
    """The recipe of a JSON file, of a LoRA of the pack, or of a run's folder. ConfigError for anything else."""
    return checked(_values(path))


def checked(values: Mapping[str, Any]) -> Recipe:
    """A recipe from its values. ConfigError for unknown keys, for settings that cannot work, and for newer versions."""
    only("recipe", values, (*CARRIED, *OWN))
    _check_version(values.get("pack", VERSION))
    base = values.get("model")
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"model: {quoted(base)} is no fingerprint: leave it out; where the model is goes into files")
    files, run, processes = (values.get(name, {}) for name in OWN)
    for name, said, known in (("files", files, FILES), ("run", run, RUN), ("processes", processes, None)):
        only(name, said, known or [each.name for each in fields(Sharding)])
    found = Recipe(
        values,
        recipes.config_of(values),
        recipes.prompts_of({"held_out": [], **values}),
        recipes.sampling_of(values),
        files or ({} if "pipeline" in values else {"bundled": True}),
        Sharding(**processes),
    )
    found.settings("none")
    found.guard()
    return found


def only(where: str, values: Any, known: Collection[str]) -> None:
    """ConfigError unless `values` is a group of settings with no other keys than those."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {quoted(values)} is not a group of settings: write it as {{...}}")
    for name in values:
        if name not in known:
            shown = quoted(name).strip("'")
            raise ConfigError(f"{where}.{shown}: not a known setting: remove it, or use one of {', '.join(known)}")


def _values(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        own, checkpoint = path / FILE, path / "checkpoint.safetensors"
        return _json(own) if own.is_file() else load_checkpoint(checkpoint).recipe
    require_plain(path, "recipe", remedy="give a JSON file, a LoRA of this pack or a run's folder")
    return recipes.load_recipe(path) if path.suffix == ".safetensors" else _json(path)


def _json(path: Path) -> Mapping[str, Any]:
    require_plain(path, "recipe", recipes.MAX_RECIPE, "choose a recipe of this pack")
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"recipe: {path.name} cannot be read as JSON ({error}): choose a recipe of this pack"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"recipe: {path.name} holds {quoted(values)}, no group of settings: write it as {{...}}")
    return values


def _check_version(pack: Any) -> None:
    try:
        newer = tuple(map(int, pack.split("."))) > tuple(map(int, VERSION.split(".")))
    except (AttributeError, ValueError):
        raise ConfigError(f"pack: {quoted(pack)} is no version: write {VERSION}, or leave it out") from None
    if newer:
        raise ConfigError(
            f"pack: the recipe is of version {pack}, this is {VERSION}, which may not know its settings: update the "
            "pack, or make the recipe with this version"
        )
