"""Where the model comes from."""

from __future__ import annotations

from comfy_api.latest import io

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
            description="A tiny text-to-image flow model that comes with the pack: coloured shapes at 64x64. For trying things out in "
            "minutes, on a CPU. "
            "Replace it by the MODEL, CLIP and VAE of your own workflow.",
            outputs=[
                io.Model.Output(display_name="model", tooltip="A flow model of the SD3 kind, 64x64 images."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder. It knows prompts like: a red circle on a dark background."),
                io.Vae.Output(display_name="vae", tooltip="Its VAE."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_tiny())


NODES = [PaveTinyModel]
