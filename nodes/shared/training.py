"""What training nodes share: their inputs, their outputs, and what their inputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...pave_core.config.adapter import LoraConfig
from ...pave_core.config.fields import from_shown
from ...pave_core.config.objective import PaveConfig
from ...pave_core.config.optimizer import OptimConfig
from ...pave_core.config.train import RunConfig, TrainConfig
from ...pave_core.evaluation.guard import GuardSettings
from ...pave_core.runs.settings import RunSettings
from ..host.policy.settings import RolloutSettings
from . import schema

PROMPTS = schema.Prompts.Input("prompts", tooltip="What to draw while training, and the held-out prompts.")
JUDGE = schema.Reward.Input(
    "judge",
    optional=True,
    tooltip="A second opinion: measured before and after on the held-out prompts, never trained on.",
)
GUARD = schema.Guard.Input(
    "guard", optional=True, tooltip="From Pave Guard: stops the run when it goes astray, and keeps the best weights."
)
GRID = io.Image.Output(display_name="grid", tooltip="Held-out prompts before and after, from the same seeds.")
SUMMARY = io.String.Output(display_name="summary", tooltip="The numbers in words.")
STATE = (
    "The training run as it stands here. Each state goes to one node that changes it: wire those one after the other."
)
STORAGE = ("run_name", "resume")
MEASURE = ("evaluation_seeds", "evaluate_every", "check_reward")


def optional_settings() -> list[Any]:
    """The sockets of the settings nodes."""
    remark = "Left open: the paper's."
    return [
        schema.RolloutSettings.Input("rollout", optional=True, tooltip=f"From Pave Rollout Settings. {remark}"),
        schema.Objective.Input("objective", optional=True, tooltip=f"From Pave Objective. {remark}"),
        schema.Optimizer.Input("optimizer", optional=True, tooltip=f"From Pave Optimizer. {remark}"),
    ]


def result_outputs() -> list[Any]:
    """What a training run gives out."""
    return [
        io.Model.Output(display_name="model", tooltip="The model with the LoRA applied, ready for a KSampler."),
        schema.LoraModel.Output(
            display_name="lora", tooltip="The LoRA, for Pave Save LoRA or the stock Save LoRA Weights."
        ),
        schema.LossMap.Output(
            display_name="loss_map",
            tooltip="For the stock Plot Loss Graph. It holds minus the reward: the loss of GRPO itself is about 0 "
            "whatever happens.",
        ),
        io.Image.Output(display_name="curve", tooltip="The rewards over the steps."),
    ]


def composed_config(
    lora: LoraConfig,
    rollout: RolloutSettings,
    *,
    objective: PaveConfig | None,
    optimizer: OptimConfig | None,
    values: Mapping[str, Any],
) -> TrainConfig:
    """The settings on wires as one, None for what was left open, with those of the node's own widgets (`values`)."""
    run = from_shown(RunConfig, values)
    return TrainConfig(rollout.config, objective or PaveConfig(), lora, optimizer or OptimConfig(), run)


def run_settings(values: Mapping[str, Any], guard: GuardSettings | None, iterations: int | None) -> RunSettings:
    """The settings of the STORAGE and MEASURE widgets, and the guard."""
    return from_shown(RunSettings, values, guard=guard, iterations=iterations)
