"""The presets of Pave Train: the widgets that they fill in the page. What trains is what the widgets say, whoever has written it there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ...pave_core.config.fields import from_shown, shown
from ...pave_core.config.presets import PRESETS
from ...pave_core.config.train import TrainConfig

logger = logging.getLogger("pave")

CUSTOM = "custom"
PRESET_NAMES = [CUSTOM, *PRESETS]

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


def preset_widgets() -> dict[str, dict[str, Any]]:
    """{preset name: {widget of Pave Train: value}}."""
    return {name: _filled(config) for name, config in PRESETS.items()}


def train_config(preset: str, values: Mapping[str, Any]) -> TrainConfig:
    """The settings of a run, which the widgets' values make. ConfigError names the field that is wrong.

    `preset` is the one that is shown. Where values were changed since it filled them, they count, and the log says so.
    """
    if preset in PRESETS:
        filled = _filled(PRESETS[preset])
        changed = [
            f"{name} {values[name]!r} instead of {value!r}" for name, value in filled.items() if values[name] != value
        ]
        if changed:
            logger.info(f"Pave-GRPO: preset {preset} was changed: {', '.join(changed)}")
    parts = {part.name: from_shown(type(getattr(TrainConfig(), part.name)), values) for part in fields(TrainConfig)}
    return TrainConfig(**parts)


def _filled(config: TrainConfig) -> dict[str, Any]:
    values = {name: value for part in fields(config) for name, value in shown(getattr(config, part.name)).items()}
    return {name: values[name] for name in METHOD}
