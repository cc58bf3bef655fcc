"""What training nodes share: inputs, outputs, and the settings that the values of their inputs make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...pave_core.config.adapter import LoraConfig
from ...pave_core.config.fields import from_shown
from ...pave_core.config.memory import MemoryConfig
from ...pave_core.config.objective import PaveConfig
from ...pave_core.config.optimizer import OptimConfig
from ...pave_core.config.train import RunConfig, TrainConfig
from ...pave_core.evaluation.guard import GuardSettings
from ...pave_core.runs.settings import RunSettings
from ..host.policy.settings import RolloutSettings
from . import schema

PROMPTS = schema.Prompts.Input(
    "prompts",
    tooltip="What it learns to draw, and the held-out prompts, which are never trained on and measure the gain.",
)
JUDGE = schema.Reward.Input(
    "judge",
    optional=True,
    tooltip="Tells whether the reward is being fooled: a reward that is only measured on the held-out prompts, before "
    "and after, and never trained on. If it falls while the reward rises, stop. It costs only its scoring.",
)
GUARD = schema.Guard.Input(
    "guard",
    optional=True,
    tooltip="From Pave Guard: stops a run that goes astray, and the best weights come out. Costs a measurement every "
    "few steps.",
)
MEMORY = schema.Memory.Input(
    "memory",
    optional=True,
    tooltip="From Pave Memory, for cards with little memory: less memory, more time. If not connected: checkpointing "
    "where it must be, and the host decides what is offloaded.",
)
GRID = io.Image.Output(display_name="grid", tooltip="Held-out prompts before and after, from the same seeds.")
SUMMARY = io.String.Output(display_name="summary", tooltip="The results in words and numbers.")
STATE = (
    "The training run as it stands here. Each state goes to one node that changes it: wire those one after the other."
)
STORAGE = ("run_name", "resume")
MEASURE = ("evaluation_seeds", "evaluate_every", "check_reward", "check_gradient")


def optional_settings() -> list[Any]:
    """The inputs for the settings nodes."""
    remark = "If not connected: the paper's."
    return [
        schema.RolloutSettings.Input("rollout", optional=True, tooltip=f"From Pave Rollout Settings. {remark}"),
        schema.Objective.Input("objective", optional=True, tooltip=f"From Pave Objective. {remark}"),
        schema.Optimizer.Input("optimizer", optional=True, tooltip=f"From Pave Optimizer. {remark}"),
    ]


def result_outputs() -> list[Any]:
    """The outputs that all training nodes have."""
    return [
        io.Model.Output(display_name="model", tooltip="The model with the LoRA applied, ready for a KSampler."),
        schema.LoraModel.Output(
            display_name="lora", tooltip="The LoRA, for Pave Save LoRA or the stock Save LoRA Weights."
        ),
        schema.LossMap.Output(
            display_name="loss_map",
            tooltip="For the stock Plot Loss Graph. It holds minus the reward, since the loss of GRPO itself is always "
            "about 0.",
        ),
        io.Image.Output(display_name="curve", tooltip="The rewards over the steps."),
    ]


def composed_config(
    lora: LoraConfig,
    rollout: RolloutSettings,
    *,
    objective: PaveConfig | None,
    optimizer: OptimConfig | None,
    memory: MemoryConfig | None,
    values: Mapping[str, Any],
) -> TrainConfig:
    """The settings of a run from those on wires (None: not connected) and the values of the node's own widgets."""
    run = from_shown(RunConfig, values)
    return TrainConfig(
        rollout=rollout.config,
        pave=objective or PaveConfig(),
        lora=lora,
        optim=optimizer or OptimConfig(),
        run=run,
        memory=memory or MemoryConfig(),
    )


def run_settings(values: Mapping[str, Any], guard: GuardSettings | None, iterations: int | None) -> RunSettings:
    """The RunSettings from the values of the STORAGE and MEASURE widgets, with guard and iterations."""
    return from_shown(RunSettings, values, guard=guard, iterations=iterations)
