"""The rollout of a training step as a node."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.steps import actions
from ..shared import schema
from ..shared.training import STATE


class PaveRollout(io.ComfyNode):
    """Generate the images of a training step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveRollout",
            "Pave Rollout",
            "Generates the images of a training step: for each of its prompts, groups that differ by one noisy "
            "denoising step. Score them with anything that gives one number per image.",
            terms=["sample", "group", "branches"],
            category=schema.STEPS,
            inputs=[schema.State.Input("state", tooltip=STATE)],
            outputs=[
                schema.Rollout.Output(
                    display_name="rollout", tooltip="The rollout, for Pave Advantage and Pave Decomposition Loss."
                ),
                io.Image.Output(
                    display_name="images",
                    tooltip="All images in one batch: prompts x branch steps x group size, group by group.",
                ),
                io.String.Output(
                    display_name="prompts", is_output_list=True, tooltip="The prompt of each image, as a list."
                ),
                io.Image.Output(
                    display_name="anchors",
                    tooltip="One image per prompt without exploration: what the model makes now.",
                ),
            ],
        )

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        sampled = actions.sample(state)
        return io.NodeOutput(sampled, sampled.images, sampled.prompts, sampled.anchors)


NODES = [PaveRollout]
