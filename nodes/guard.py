"""Before and while a run goes on: whether the reward can teach, and whether it is being fooled."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io, ui

from ..pave_core.evaluation.guard import Action, GuardConfig, GuardSettings
from .host.reward_check import check
from .shared import schema
from .shared.widgets import widgets
from .train import PROMPTS, default_rollout


class PaveGuard(io.ComfyNode):
    """What a run is watched by."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveGuard",
            "Pave Guard",
            "Watches a training run for reward hacking: every few steps it measures held-out images by a reward that is never trained on, how far "
            "the model has drifted from its base, and how the look of the images has changed. Beyond a threshold it stops the run or slows it down, "
            "and the best weights are what comes out.",
            terms=["reward hacking", "early stopping", "collapse", "overfitting", "best checkpoint"],
            inputs=[
                schema.Reward.Input(
                    "held_out",
                    optional=True,
                    tooltip="A reward that is not trained on, or a mix of several. Left open: the judge of the training node.",
                ),
                io.Int.Input("every", default=10, min=1, max=10_000, tooltip="Steps between two measurements."),
                io.Combo.Input(
                    "action",
                    options=list(get_args(Action)),
                    default="stop",
                    tooltip="stop: end the run. lower learning rate: go back to the best weights with half the learning rate; the fourth alarm ends "
                    "the run.",
                ),
                io.Float.Input(
                    "max_drop",
                    default=0.2,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="Alarm when the held-out reward is so far below its best, in units of its spread at the start. 0: no alarm.",
                ),
                io.Float.Input(
                    "max_drift",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    tooltip="Alarm when the velocity differs so much from the base model's: mean squared difference, relative to its mean square. "
                    "0: no alarm.",
                ),
                io.Float.Input(
                    "max_change",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Alarm when saturation, contrast or flatness of the images has changed by this part of what it was: 0.5 is by half. "
                    "0: no alarm.",
                ),
            ],
            outputs=[schema.Guard.Output(display_name="guard", tooltip="For Pave Train, Pave Train (Advanced) or Pave Begin.")],
        )

    @classmethod
    def execute(cls, every, action, max_drop, max_drift, max_change, held_out=None) -> io.NodeOutput:
        return io.NodeOutput(GuardSettings(GuardConfig(every, action, max_drop, max_drift, max_change), held_out))


class PaveCheckReward(io.ComfyNode):
    """Whether a reward can teach."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCheckReward",
            "Pave Check Reward",
            "Before the hours: draws a few groups with the model as it is and says whether the reward can tell them apart, how long it takes, "
            "and whether the rewards of a mix agree.",
            terms=["preflight", "test reward", "spread", "correlation"],
            is_output_node=True,
            inputs=[
                schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
                PROMPTS,
                schema.Reward.Input("reward", tooltip="The reward to check, or a mix."),
                schema.RolloutSettings.Input(
                    "rollout",
                    optional=True,
                    tooltip="From Pave Rollout Settings; at most 2 branch steps and 6 images a group are drawn. Left open: the paper's.",
                ),
                *widgets("seed"),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Verdict and figures, as Markdown for Preview as Text."),
                io.Boolean.Output(display_name="can_teach", tooltip="Whether the reward can tell the images apart."),
                io.Image.Output(display_name="sheet", tooltip="The groups that were drawn, each sorted by reward."),
            ],
        )

    @classmethod
    def execute(cls, policy, prompts, reward, seed, rollout=None) -> io.NodeOutput:
        result, sheet = check(policy, prompts, reward, rollout or default_rollout(), seed)
        return io.NodeOutput(result.text(), result.problem is None, sheet, ui=ui.PreviewText(result.text()))


NODES = [PaveGuard, PaveCheckReward]
