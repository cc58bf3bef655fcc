"""The presets of Pave Train: which of its widgets they set, and the settings that the widgets make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..pave_core.config import PRESETS, RunConfig, TrainConfig
from . import widgets

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
    """The settings of a run: the preset's if one is chosen, else the widgets'. ConfigError names the field that is wrong."""
    values = values if preset == CUSTOM else preset_widgets(PRESETS[preset])
    return TrainConfig(
        rollout=widgets.rollout_config(values),
        pave=widgets.pave_config(values),
        lora=widgets.lora_config(values),
        optim=widgets.optim_config(values),
        run=RunConfig(values["iterations"], values["prompts_per_step"], seed, values["checkpoint_every"]),
    )
