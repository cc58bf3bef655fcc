"""The reward check as a node: whether a reward can teach, before a run."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.policy.settings import RolloutSettings
from .host.reward_check import check
from .shared import schema
from .shared.training import PROMPTS
from .shared.widgets import widgets


class PaveCheckReward(io.ComfyNode):
    """Whether a reward can teach."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCheckReward",
            "Pave Check Reward",
            "Run it before hours of training: generates a few groups of images with the model as it is, and says "
            "whether the reward can tell the images of a group apart, how long it takes, and whether the rewards of a "
            "mix agree.",
            terms=["preflight", "test reward", "spread", "correlation"],
            is_output_node=True,
            inputs=[
                schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
                PROMPTS,
                schema.Reward.Input("reward", tooltip="The reward to check, or a mix."),
                schema.RolloutSettings.Input(
                    "rollout",
                    optional=True,
                    tooltip="From Pave Rollout Settings; at most 2 branch steps with groups of 6 images are used. If "
                    "not connected: the paper's.",
                ),
                *widgets("seed"),
            ],
            outputs=[
                io.String.Output(
                    display_name="report", tooltip="The verdict and the numbers, as Markdown for Preview as Text."
                ),
                io.Boolean.Output(display_name="can_teach", tooltip="Whether the reward can tell the images apart."),
                io.Image.Output(display_name="sheet", tooltip="The groups that were generated, each sorted by reward."),
            ],
        )

    @classmethod
    def execute(cls, policy, prompts, reward, seed, rollout=None) -> io.NodeOutput:
        result, sheet = check(policy, rollout or RolloutSettings(), prompts=prompts, reward=reward, seed=seed)
        return io.NodeOutput(result.text(), result.problem is None, sheet, ui=ui.PreviewText(result.text()))


NODES = [PaveCheckReward]
