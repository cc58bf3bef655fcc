"""To look at: the groups that are compared while training, and two models side by side."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..host.compare import compare
from ..host.policy.native import SamplingSettings
from ..host.steps.actions import Advantages, sheet
from ..shared import schema
from ..shared.widgets import widgets


class PavePreviewGroup(io.ComfyNode):
    """The images of a step, sorted by reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePreviewGroup",
            "Pave Preview Group",
            "Shows the images of a step, each group sorted by reward, with reward and advantage below every image: what the model is pushed toward "
            "(green) and away from (red). Inside a loop it shows every iteration.",
            terms=["preview images", "group", "what is it learning"],
            category=schema.STEPS,
            is_output_node=True,
            inputs=[
                schema.Advantages.Input("advantages", tooltip="From Pave Advantage: the images, their scores and how they compare."),
                io.Int.Input("rows", default=12, min=1, max=200, tooltip="Groups shown at most."),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The picture that is shown.")],
        )

    @classmethod
    def execute(cls, advantages: Advantages, rows: int) -> io.NodeOutput:
        picture = sheet(advantages, rows).unsqueeze(0)
        return io.NodeOutput(picture, ui=ui.PreviewImage(picture, cls=cls))


class PaveCompare(io.ComfyNode):
    """Two models on the same prompts and seeds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCompare",
            "Pave Compare",
            "Draws the same prompts from the same seeds with two models, scores both, and shows them side by side: with and without the LoRA, say.",
            terms=["before after", "side by side", "xy plot", "a/b test"],
            inputs=[
                io.Model.Input("model_a", tooltip="The first model, such as the one before training."),
                io.Model.Input("model_b", tooltip="The second, such as the one with the LoRA."),
                io.Clip.Input("clip", tooltip="The text encoder of both."),
                io.Vae.Input("vae", tooltip="The VAE of both."),
                schema.Prompts.Input("prompts", tooltip="The held-out prompts are drawn; all of them where none is held out."),
                schema.Reward.Input("reward", tooltip="What the images are scored with."),
                io.Int.Input("seeds", default=4, min=1, max=256, tooltip="Images of each prompt, from seeds 1, 2, 3, ..."),
                io.Int.Input("steps", default=20, min=2, max=200, tooltip="Denoising steps of an image, by the Euler sampler."),
                *widgets("width", "height", "cfg"),
                io.String.Input("label_a", default="before", tooltip="What the first model is called in grid and table."),
                io.String.Input("label_b", default="after", tooltip="What the second is called."),
                *widgets("batch_size", "negative_prompt", "guidance", "scheduler"),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="Side by side, with the reward below each image."),
                io.String.Output(display_name="table", tooltip="The rewards, in all and prompt by prompt, with the gain and its standard error."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model_a,
        model_b,
        clip,
        vae,
        prompts,
        reward,
        seeds,
        steps,
        width,
        height,
        cfg,
        label_a,
        label_b,
        batch_size,
        negative_prompt,
        guidance,
        scheduler,
    ) -> io.NodeOutput:
        sampling = SamplingSettings(width, height, scheduler, cfg, guidance, negative_prompt)
        grid, table = compare((model_a, model_b), clip, vae, prompts, reward, seeds, steps, batch_size, sampling, (label_a, label_b))
        return io.NodeOutput(grid, table)


NODES = [PavePreviewGroup, PaveCompare]
