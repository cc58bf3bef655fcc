"""The recipe of a training in a graph, as a file that tools/train.py trains without one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...pave_core.files import write_atomically
from ...pave_core.runs.recipe import recipe_of
from ...pave_core.runs.settings import Task
from ...pave_core.training.processes import Sharding
from . import folders
from .policy.make import AnySettings, made
from .policy.settings import RolloutSettings


def export_recipe(
    settings: AnySettings, rollout: RolloutSettings, task: Task, files: Mapping[str, Any]
) -> tuple[Path, str]:
    """Write the recipe of a run: (its new file, what is in it). files: as of model_files.

    ConfigError where the policy cannot draw the pictures.
    """
    policy, _ = made(settings, rollout.picture, seed=task.config.run.seed, memory=task.config.memory)
    with policy:
        recipe = recipe_of(policy, task, policy.fingerprint())
    recipe |= {"files": dict(files), "run": task.settings.to_recipe(), "processes": asdict(Sharding())}
    text, path = json.dumps(recipe, indent=1, ensure_ascii=False), folders.recipe_file(task.settings.name)
    write_atomically(path, text.encode())
    return path, text
