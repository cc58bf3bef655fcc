"""The presets of Pave Train: the widgets that they fill in the page. What trains is what the widgets say, whoever has written it there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...pave_core.config.train import PRESETS, RunConfig, TrainConfig
from . import widgets

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
"""The widgets of Pave Train that a preset sets."""


def preset_widgets(config: TrainConfig) -> dict[str, Any]:
    """{widget: value} of the settings that a preset fixes."""
    values = widgets.setting_values(config)
    return {name: values[name] for name in METHOD}


def train_config(preset: str, seed: int, values: Mapping[str, Any]) -> TrainConfig:
    """The settings of a run, which the widgets' values make. ConfigError names the field that is wrong.

    `preset` is the one that is shown. Where values were changed since it filled them, they count, and the log says so.
    """
    if preset in PRESETS:
        filled = preset_widgets(PRESETS[preset])
        changed = [f"{name} {values[name]!r} instead of {value!r}" for name, value in filled.items() if values[name] != value]
        if changed:
            logger.info(f"Pave-GRPO: preset {preset} was changed: {', '.join(changed)}")
    return TrainConfig(
        rollout=widgets.rollout_config(values),
        pave=widgets.pave_config(values),
        lora=widgets.lora_config(values),
        optim=widgets.optim_config(values),
        run=RunConfig(values["iterations"], values["prompts_per_step"], seed, values["checkpoint_every"]),
    )
