"""Checks before a run as nodes: whether a reward can teach, and whether the run fits into the memory."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..pave_core.config.train import RunConfig
from ..pave_core.runs.settings import RunSettings
from .host import preflight
from .host.graphs import queue
from .host.graphs.settings import check_wired
from .host.policy.settings import RolloutSettings
from .host.reward_check import check
from .shared import schema
from .shared.training import MEMORY, PROMPTS, composed_config, optional_settings
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
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, policy, prompts, reward, seed, rollout=None) -> io.NodeOutput:
        rollout, node_id = rollout or RolloutSettings(), cls.hidden.unique_id
        result, sheet = check(policy, rollout, prompts=prompts, reward=reward, seed=seed, node_id=node_id)
        return io.NodeOutput(result.text(), result.problem is None, sheet, ui=ui.PreviewText(result.text()))


class PavePreflight(io.ComfyNode):
    """Whether a run fits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePreflight",
            "Pave Preflight",
            "Run it before a training: measures your model for some seconds, and says how many minutes or hours it "
            "will take with these settings, how much memory each phase takes, what will not fit, and which settings "
            "would.",
            terms=["memory", "vram", "out of memory", "estimate", "how long", "hours"],
            is_output_node=True,
            inputs=[
                schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
                schema.Prompts.Input(
                    "prompts", optional=True, tooltip="The prompts to train on; the longest takes the most memory."
                ),
                schema.Reward.Input("reward", optional=True, tooltip="The reward that you will train on, or a mix."),
                *optional_settings(),
                MEMORY,
                io.Float.Input(
                    "card",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=1.0,
                    tooltip="GB of another card to reckon with. 0: what this device has free or in the host's models.",
                ),
                *widgets("prompts_per_step"),
                *widgets("iterations", "evaluation_seeds", "evaluate_every", optional=True),
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="Memory by phase and part and the time of the run, as Markdown for Preview as Text.",
                ),
                io.Boolean.Output(display_name="fits", tooltip="Whether every phase fits."),
            ],
        )

    @classmethod
    def validate_inputs(cls, policy=None) -> bool | str:
        return queue.validated(check_wired)

    @classmethod
    def execute(
        cls,
        policy,
        card,
        prompts_per_step,
        prompts=None,
        reward=None,
        rollout=None,
        objective=None,
        optimizer=None,
        memory=None,
        iterations=RunConfig.iterations,
        evaluation_seeds=RunSettings.evaluation_seeds,
        evaluate_every=RunSettings.evaluate_every,
    ) -> io.NodeOutput:
        rollout = rollout or RolloutSettings()
        values = {"prompts_per_step": prompts_per_step, "iterations": iterations}
        config = composed_config(
            policy.lora, rollout, objective=objective, optimizer=optimizer, memory=memory, values=values
        )
        longest = max(prompts.train, key=len) if prompts else preflight.PROMPT
        found = preflight.check(
            policy,
            rollout,
            config=config,
            prompt=longest,
            reward=reward,
            card=card,
            held_out=evaluation_seeds * (len(prompts.evaluated) if prompts else 0),
            evaluate_every=evaluate_every,
        )
        return io.NodeOutput(found.text(), found.fits, ui=ui.PreviewText(found.text()))


NODES = [PaveCheckReward, PavePreflight]
