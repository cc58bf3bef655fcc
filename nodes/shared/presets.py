"""The presets of Pave Train and Pave Memory: the values that they fill into the widgets of these nodes in the page.

A run trains with what the widgets say, whether a preset or the user has filled them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...pave_core.config.fields import from_shown, shown
from ...pave_core.config.memory import MemoryConfig
from ...pave_core.config.presets import MEMORY_PRESETS, PRESETS
from ...pave_core.config.train import TrainConfig

logger = logging.getLogger("pave")

CUSTOM = "custom"
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
        "PaveTrain": {name: _filled(config) for name, config in PRESETS.items()},
        "PaveMemory": {name: shown(preset.memory()) for name, preset in MEMORY_PRESETS.items()},
    }


def train_config(preset: str, values: Mapping[str, Any], memory: MemoryConfig | None) -> TrainConfig:
    """The settings of a run, from the values of the widgets. ConfigError, with the field, for a wrong value.

    preset: the one that the widgets show. Values that were changed after the preset had filled them are used, and
    logged. memory: from its wire; None: not connected.
    """
    _log_changes("PaveTrain", preset, values)
    parts = {name: from_shown(type(part), values) for name, part in vars(TrainConfig()).items() if name != "memory"}
    return TrainConfig(**parts, memory=memory or MemoryConfig())


def memory_config(preset: str, values: Mapping[str, Any]) -> MemoryConfig:
    """The settings of memory, likewise."""
    _log_changes("PaveMemory", preset, values)
    return from_shown(MemoryConfig, values)


def _log_changes(node: str, preset: str, values: Mapping[str, Any]) -> None:
    filled = preset_widgets()[node].get(preset, {})
    changed = [
        f"{name} {values[name]!r} instead of {value!r}" for name, value in filled.items() if values[name] != value
    ]
    if changed:
        logger.info(f"Pave-GRPO: preset {preset} was changed: {', '.join(changed)}")


def _filled(config: TrainConfig) -> dict[str, Any]:
    """{widget: value} that a preset fills, for the METHOD widgets."""
    values = {name: value for part in vars(config).values() for name, value in shown(part).items()}
    return {name: values[name] for name in METHOD}
