"""What you like: rewards score images, higher is better."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...pave_core.errors import ConfigError
from ...pave_core.rewards.colour import ColourReward
from ...pave_core.rewards.shapes import Adherence
from ...pave_core.rewards.statistics import PIXEL_STATISTICS
from ...pave_core.scoring.score import RewardMix
from ..host import tiny
from ..shared import schema
from ..shared.schema import Reward, advanced

MIX_SIZE = 4


class PaveColour(io.ComfyNode):
    """A preference for one colour."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def channel(name: str, default: float) -> Any:
            return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=f"How much {name} the colour has that you like.")

        return schema.schema(
            "PaveColour",
            "Pave Colour",
            terms=["color", "palette", "tint"],
            description="Reward: a smooth preference for one colour, the mean over all pixels. The simplest reward, to see the method work. "
            "Alone it floods the image with the colour: mix it with a CLIP score.",
            inputs=[
                channel("red", 1.0),
                channel("green", 0.75),
                channel("blue", 0.4),
                advanced(
                    io.Float.Input(
                        "softness",
                        default=0.5,
                        min=0.05,
                        max=2.0,
                        step=0.05,
                        tooltip="The distance in RGB at which a pixel's score has fallen to 0.61. Small is strict.",
                    )
                ),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def execute(cls, red: float, green: float, blue: float, softness: float) -> io.NodeOutput:
        return io.NodeOutput(ColourReward(red, green, blue, softness))


class PaveTinyAdherence(io.ComfyNode):
    """An impartial judge for the bundled model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTinyAdherence",
            "Pave Tiny Adherence",
            terms=["judge", "classifier"],
            description="For the bundled tiny model: 1 where a small classifier finds both the colour and the shape of the prompt in the "
            "image, else 0. Connect it to the judge of Pave Train: it is only measured, never trained on.",
            outputs=[Reward.Output(display_name="judge", tooltip="For the judge input of Pave Train.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(Adherence(tiny.SHAPE_CLASSIFIER))


class PaveRewardMix(io.ComfyNode):
    """Several rewards at once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = []
        for i in range(1, MIX_SIZE + 1):
            inputs.append(Reward.Input(f"reward_{i}", optional=i > 1, tooltip="A reward. Each is there to keep the others honest."))
            inputs.append(
                io.Float.Input(
                    f"weight_{i}",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip=f"How much reward_{i} counts. A negative weight dislikes what it likes.",
                )
            )
        inputs.append(
            io.Combo.Input(
                "normalise",
                options=["within group", "raw"],
                default="within group",
                tooltip="within group: each reward gets mean 0 and spread 1 within a group before the weights, so that scales do not matter. "
                "raw: the weighted sum as it is.",
            )
        )
        return schema.schema(
            "PaveRewardMix",
            "Pave Reward Mix",
            terms=["combine rewards", "weights", "multi reward"],
            description="Several rewards with weights. One reward alone is soon fooled; two that disagree are not.",
            inputs=inputs,
            outputs=[Reward.Output(display_name="reward", tooltip="For Pave Train.")],
        )

    @classmethod
    def execute(cls, normalise: str, **inputs: Any) -> io.NodeOutput:
        places = [i for i in range(1, MIX_SIZE + 1) if inputs.get(f"reward_{i}") is not None]
        rewards = tuple(inputs[f"reward_{i}"] for i in places)
        return io.NodeOutput(RewardMix(rewards, tuple(inputs[f"weight_{i}"] for i in places), normalise))  # pyright: ignore[reportArgumentType]


class PaveImageStatistic(io.ComfyNode):
    """A number out of an image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveImageStatistic",
            "Pave Image Statistic",
            description="One number for each image: the mean of its pixels, their spread, or the largest or smallest. At the end of a graph of image "
            "nodes it makes a reward of them, by Pave Scores From Numbers.",
            terms=["image to number", "brightness", "mean", "contrast", "custom reward"],
            inputs=[
                io.Image.Input("images", tooltip="The images; each gets a number of its own."),
                io.Combo.Input(
                    "statistic",
                    options=list(PIXEL_STATISTICS),
                    default="mean",
                    tooltip="mean: brightness. standard deviation: contrast. Over all pixels and colours.",
                ),
            ],
            outputs=[io.Float.Output(display_name="numbers", is_output_list=True, tooltip="One number an image, as a list.")],
        )

    @classmethod
    def execute(cls, images: Tensor, statistic: str) -> io.NodeOutput:
        if statistic not in PIXEL_STATISTICS:
            raise ConfigError(f"statistic: {statistic!r} is not known: choose one of {', '.join(PIXEL_STATISTICS)}")
        return io.NodeOutput(PIXEL_STATISTICS[statistic](images.flatten(1).float()).tolist())


NODES = [PaveColour, PaveTinyAdherence, PaveRewardMix, PaveImageStatistic]
