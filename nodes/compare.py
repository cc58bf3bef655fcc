"""Two models side by side, as a node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pave_core.config.fields import check_line, from_shown
from .host.compare import compare
from .host.policy.settings import Guidance, Picture, PolicySettings
from .shared import schema
from .shared.widgets import widgets

MAX_LABEL = 100
"""The most characters of a model's name in grid and table."""


class PaveCompare(io.ComfyNode):
    """Two models on the same prompts and seeds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCompare",
            "Pave Compare",
            "Generates the same prompts from the same seeds with two models, such as with and without the LoRA, scores "
            "the images, and shows them side by side.",
            terms=["before after", "side by side", "xy plot", "a/b test"],
            inputs=[
                io.Model.Input("model_a", tooltip="The first model, such as the one before training."),
                io.Model.Input("model_b", tooltip="The second model, such as the one with the LoRA."),
                io.Clip.Input("clip", tooltip="The text encoder of both."),
                io.Vae.Input("vae", tooltip="The VAE of both."),
                schema.Prompts.Input(
                    "prompts", tooltip="The held-out prompts are used; if none is held out, all prompts."
                ),
                schema.Reward.Input("reward", tooltip="What the images are scored with."),
                io.Int.Input(
                    "seeds", default=4, min=1, max=256, tooltip="Images of each prompt, from seeds 1, 2, 3, ..."
                ),
                io.Int.Input(
                    "steps", default=20, min=2, max=200, tooltip="Denoising steps of an image, by the Euler sampler."
                ),
                *widgets("width", "height", "cfg"),
                io.String.Input("label_a", default="before", tooltip="The name of the first model in grid and table."),
                io.String.Input("label_b", default="after", tooltip="The name of the second model."),
                *widgets("batch_size", "negative_prompt", "guidance", "scheduler"),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="Side by side, with the reward below each image."),
                io.String.Output(
                    display_name="table",
                    tooltip="The rewards, in total and by prompt, with the gain and its standard error.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, label_a: str | None = None, label_b: str | None = None) -> bool | str:
        return schema.checked(lambda: cls._check(label_a or "", label_b or ""))  # None where it is linked

    @staticmethod
    def _check(label_a: str, label_b: str) -> None:
        check_line("label_a", label_a, MAX_LABEL)
        check_line("label_b", label_b, MAX_LABEL)

    @classmethod
    def execute(
        cls, model_a, model_b, clip, vae, prompts, reward, seeds, steps, batch_size, label_a, label_b, **values: Any
    ) -> io.NodeOutput:
        cls._check(label_a, label_b)
        first = PolicySettings(model_a, clip, vae, None, from_shown(Guidance, values))
        grid, table = compare(
            first,
            model_b,
            picture=from_shown(Picture, values),
            prompts=prompts,
            reward=reward,
            seeds=seeds,
            steps=steps,
            batch_size=batch_size,
            labels=(label_a, label_b),
        )
        return io.NodeOutput(grid, table)


NODES = [PaveCompare]
