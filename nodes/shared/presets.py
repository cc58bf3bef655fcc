"""The presets of Pave Train: the values that they fill into its widgets in the page.

A run trains with what the widgets say, whether a preset or the user has filled them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
    """The settings of a run, from the values of the widgets. ConfigError, with the field, for a wrong value.

    preset: the one that the widgets show. Values that were changed after the preset had filled them are used, and
    logged.
    """
    if preset in PRESETS:
        filled = _filled(PRESETS[preset])
        changed = [
            f"{name} {values[name]!r} instead of {value!r}" for name, value in filled.items() if values[name] != value
        ]
        if changed:
            logger.info(f"Pave-GRPO: preset {preset} was changed: {', '.join(changed)}")
    parts = vars(TrainConfig()).items()
    return TrainConfig(**{name: from_shown(type(part), values) for name, part in parts})


def _filled(config: TrainConfig) -> dict[str, Any]:
    """{widget: value} that a preset fills, for the METHOD widgets."""
    values = {name: value for part in vars(config).values() for name, value in shown(part).items()}
    return {name: values[name] for name in METHOD}
