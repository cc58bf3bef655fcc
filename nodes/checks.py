"""Before a run: whether the reward can teach."""

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
                io.String.Output(
                    display_name="report", tooltip="Verdict and numbers, as Markdown for Preview as Text."
                ),
                io.Boolean.Output(display_name="can_teach", tooltip="Whether the reward can tell the images apart."),
                io.Image.Output(display_name="sheet", tooltip="The groups that were drawn, each sorted by reward."),
            ],
        )

    @classmethod
    def execute(cls, policy, prompts, reward, seed, rollout=None) -> io.NodeOutput:
        result, sheet = check(policy, rollout or RolloutSettings(), prompts=prompts, reward=reward, seed=seed)
        return io.NodeOutput(result.text(), result.problem is None, sheet, ui=ui.PreviewText(result.text()))


NODES = [PaveCheckReward]
