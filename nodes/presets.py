"""The widgets of Pave Train and the core's TrainConfig, one in terms of the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..pave_core.config import PRESETS, LoraConfig, OptimConfig, PaveConfig, RolloutConfig, RunConfig, TrainConfig, parse_int_set

CUSTOM = "custom"
PRESET_NAMES = [CUSTOM, *PRESETS]


def preset_widgets(config: TrainConfig) -> dict[str, Any]:
    """{widget: value} of the settings that a preset fixes."""
    rollout, pave, lora, optim, run = config.rollout, config.pave, config.lora, config.optim, config.run
    return {
        "iterations": run.iterations,
        "prompts_per_step": run.prompts_per_step,
        "learning_rate": optim.learning_rate,
        "rank": lora.rank,
        "alpha": lora.alpha,
        "targets": lora.targets,
        "steps": rollout.steps,
        "branch_steps": ", ".join(map(str, rollout.branch_steps)),
        "group_size": rollout.group_size,
        "eta": rollout.eta,
        "segments": ", ".join(map(str, pave.segments)),
        "advantage_clip": pave.advantage_clip,
        "batch_size": rollout.batch_size,
        "checkpoint_every": run.checkpoint_every,
        "init": lora.init,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.max_grad_norm,
        "warmup_steps": optim.warmup_steps,
        "optimizer_step": optim.step,
    }


def train_config(preset: str, seed: int, widgets: Mapping[str, Any]) -> TrainConfig:
    """The settings of a run: the preset's if one is chosen, else the widgets'. ConfigError names the field that is wrong."""
    values = dict(widgets) if preset == CUSTOM else preset_widgets(PRESETS[preset])
    return TrainConfig(
        rollout=RolloutConfig(
            steps=values["steps"],
            branch_steps=parse_int_set("branch_steps", values["branch_steps"]),
            group_size=values["group_size"],
            eta=values["eta"],
            batch_size=values["batch_size"],
        ),
        pave=PaveConfig(segments=parse_int_set("segments", values["segments"]), advantage_clip=values["advantage_clip"]),
        lora=LoraConfig(rank=values["rank"], alpha=values["alpha"], targets=values["targets"], init=values["init"]),
        optim=OptimConfig(
            learning_rate=values["learning_rate"],
            weight_decay=values["weight_decay"],
            max_grad_norm=values["max_grad_norm"],
            warmup_steps=values["warmup_steps"],
            step=values["optimizer_step"],
        ),
        run=RunConfig(
            iterations=values["iterations"],
            prompts_per_step=values["prompts_per_step"],
            seed=seed,
            checkpoint_every=values["checkpoint_every"],
        ),
    )
