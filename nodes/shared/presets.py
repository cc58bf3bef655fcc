"""The presets of the nodes: the values that they fill into widgets in the page.

A run trains with what the widgets say, whether a preset or the user has filled them. What no widget of the node says,
or a prompt leaves out, is the preset's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from comfy_api.latest import io

from ...pave_core.config.combinations import settings_of
from ...pave_core.config.fields import from_shown, shown
from ...pave_core.config.memory import MemoryConfig
from ...pave_core.config.presets import CUSTOM, MEMORY_PRESETS, PRESETS, preset_config, with_values
from ...pave_core.config.train import TrainConfig
from ...pave_core.errors import ConfigError, quoted

C = TypeVar("C")
logger = logging.getLogger("pave")

PRESET_NAMES = [CUSTOM, *PRESETS]
MEMORY_PRESET_NAMES = [CUSTOM, *MEMORY_PRESETS]

METHOD = (
    "iterations",
    "prompts_per_step",
    "learning_rate",
    "rank",
    "alpha",
    "targets",
    "steps",
    "branch_steps",
    "group_size",
    "eta",
    "segments",
    "advantage_clip",
    "batch_size",
    "checkpoint_every",
    "init",
    "weight_decay",
    "max_grad_norm",
    "warmup_steps",
    "optimizer_step",
)
"""The widgets of Pave Train that a preset fills, in their order on the node."""


def preset_widgets() -> dict[str, dict[str, dict[str, Any]]]:
    """{node: {preset name: {widget: value}}}."""
    return {
        "PaveTrain": {name: _of_method(settings_of(config)) for name, config in PRESETS.items()},
        "PaveRolloutSettings": {name: shown(config.rollout) for name, config in PRESETS.items()},
        "PaveObjective": {name: shown(config.pave) for name, config in PRESETS.items()},
        "PaveOptimizer": {name: shown(config.optim) for name, config in PRESETS.items()},
        "PaveMemory": {name: shown(preset.memory()) for name, preset in MEMORY_PRESETS.items()},
    }


def preset_input(what: str) -> io.Combo.Input:
    """The input `preset` of a settings node. what: whose settings these are, in words."""
    return io.Combo.Input(
        "preset",
        options=PRESET_NAMES,
        default=CUSTOM,
        optional=True,
        tooltip=f"Choosing one fills the fields with {what} of a named method; custom once you change one of them. The "
        "run uses what the fields say.",
    )


def train_config(preset: str, values: Mapping[str, Any], memory: MemoryConfig | None) -> TrainConfig:
    """The settings of a run: those of the preset, and the values of the widgets over them.

    Values that were changed after the preset had filled them are logged. memory: from its wire; None: not connected.
    ConfigError, with the field, for a wrong value.
    """
    base = preset_config(preset)
    config = with_values(base, values)
    _log_changes(preset, _of_method(settings_of(base)), _of_method(settings_of(config)))
    return replace(config, memory=memory or MemoryConfig())


def part_config(base: C, preset: str, values: Mapping[str, Any]) -> C:
    """One part of the settings, likewise. base: that of the preset."""
    config = from_shown(type(base), shown(base) | dict(values))
    _log_changes(preset, shown(base), shown(config))
    return config


def memory_config(preset: str, values: Mapping[str, Any]) -> MemoryConfig:
    """The settings of memory, likewise."""
    if preset not in MEMORY_PRESET_NAMES:
        raise ConfigError(f"preset: {quoted(preset)} is not known: choose one of {', '.join(MEMORY_PRESET_NAMES)}")
    base = MemoryConfig() if preset == CUSTOM else MEMORY_PRESETS[preset].memory()
    return part_config(base, preset, values)


def _log_changes(preset: str, filled: Mapping[str, Any], used: Mapping[str, Any]) -> None:
    changed = [f"{name} {used[name]!r} instead of {value!r}" for name, value in filled.items() if used[name] != value]
    if changed and preset != CUSTOM:
        logger.info(f"Pave-GRPO: preset {preset} was changed: {', '.join(changed)}")


def _of_method(values: Mapping[str, Any]) -> dict[str, Any]:
    """{widget: value} of the METHOD widgets."""
    return {name: values[name] for name in METHOD}
