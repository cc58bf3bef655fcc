"""The bundled tiny model and a judge for it, as nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..pave_core.rewards.shapes import Adherence
from .host import tiny
from .host.tiny import load_tiny
from .shared import schema


class PaveTinyModel(io.ComfyNode):
    """The bundled text-to-image model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTinyModel",
            "Pave Tiny Model",
            terms=["bundled model", "demo", "test model"],
            description="A tiny text-to-image flow model that comes with the pack: coloured shapes at 64x64. For "
            "trying things out in minutes, on a CPU. Replace it by the MODEL, CLIP and VAE of your own workflow.",
            outputs=[
                io.Model.Output(display_name="model", tooltip="A flow model of the SD3 kind, 64x64 images."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="Its text encoder. It knows prompts like: a red circle on a dark background.",
                ),
                io.Vae.Output(display_name="vae", tooltip="Its VAE."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_tiny())


class PaveTinyAdherence(io.ComfyNode):
    """An impartial judge for the bundled model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTinyAdherence",
            "Pave Tiny Adherence",
            terms=["judge", "classifier"],
            description="For the bundled tiny model: 1 where a small classifier finds both the colour and the shape of "
            "the prompt in the image, else 0. Connect it to the judge of Pave Train: it is only measured, never "
            "trained on.",
            outputs=[schema.Reward.Output(display_name="judge", tooltip="For the judge input of Pave Train.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(Adherence(tiny.SHAPE_CLASSIFIER))


NODES = [PaveTinyModel, PaveTinyAdherence]
