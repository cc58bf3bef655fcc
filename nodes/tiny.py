"""The bundled tiny model, a judge and a preference model for it, as nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..pave_core.rewards.networks.compute import Compute
from ..pave_core.rewards.preference import TinyPreference
from ..pave_core.rewards.shapes import Adherence
from .host import tiny
from .host.memory import free_caches
from .host.placement import visiting
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


class PaveTinyPreference(io.ComfyNode):
    """What is preferred, for the bundled model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTinyPreference",
            "Pave Tiny Preference",
            terms=["human preference", "reward model", "bradley terry"],
            description="Reward for the bundled tiny model: what is preferred, by a small network that was trained on "
            "pairs of pictures. It likes the colour and the shape of the prompt, clean shapes and large ones. It "
            "stands for Pave HPS v2.1 where nothing is to be downloaded.",
            outputs=[schema.reward_output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        compute = Compute(visiting, batch_size=16, free=free_caches)
        return io.NodeOutput(TinyPreference(tiny.PREFERENCE, tiny.OPEN_CLIP_MODEL, tiny.OPEN_CLIP_CONFIG, compute))


NODES = [PaveTinyModel, PaveTinyAdherence, PaveTinyPreference]
