"""Rewards as nodes: those that need no weights from the user. Colour, statistics, file size, text in the image."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io

from ...pave_core.rewards.colour import ColourReward
from ...pave_core.rewards.jpeg import JPEGSize, Prefer
from ...pave_core.rewards.ocr import OCR
from ...pave_core.rewards.statistics import STATISTICS, Direction, StatisticReward
from ..shared import schema
from ..shared.schema import advanced


class PaveOCR(io.ComfyNode):
    """How much of the prompt's quoted text can be read in the image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveOCR",
            "Pave OCR",
            terms=["text rendering", "read text", "spelling", "typography"],
            description="Reward: how much of the quoted text of the prompt can be read in the image, such as OPEN of: "
            'a shop sign that says "OPEN". From 0 (nothing) to 1 (all). Needs the package rapidocr: '
            "python -m pip install --no-deps -r requirements-ocr.txt.",
            outputs=[schema.reward_output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(OCR())


class PaveJPEGSize(io.ComfyNode):
    """Images that compress well, or badly."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveJPEGSize",
            "Pave JPEG Size",
            terms=["compressibility", "incompressibility", "ddpo", "file size"],
            description="Reward: the size of the image as a JPEG at quality 95. A test that training works; alone it "
            "ends in flat images or noise.",
            inputs=[
                io.Combo.Input(
                    "prefer",
                    options=list(get_args(Prefer)),
                    default="small files",
                    tooltip="What images become: small files are plain with few details, large files have detail and "
                    "texture, and at last noise.",
                )
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def execute(cls, prefer: Prefer) -> io.NodeOutput:
        return io.NodeOutput(JPEGSize(prefer))


class PaveStatisticsReward(io.ComfyNode):
    """More, less or a certain value of a statistic."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveStatisticsReward",
            "Pave Statistics Reward",
            terms=["colorfulness", "saturation", "brightness", "contrast", "sharpness", "warm", "exposure"],
            description="Reward: more, less or a certain amount of colour, brightness, contrast or sharpness. Easily "
            "overdone: mix it with CLIP, or aim near a value.",
            inputs=[
                io.Combo.Input(
                    "statistic",
                    options=list(STATISTICS),
                    default="colourfulness",
                    tooltip="What is to change. colourfulness: 0 grey to 109 extreme. saturation, brightness: 0 to "
                    "1. contrast: 0 to 0.5. sharpness: below 100 is soft. warmth: red over blue, -1 to 1. flatness: "
                    "0 to 1, the share without detail.",
                ),
                io.Combo.Input(
                    "direction",
                    options=list(get_args(Direction)),
                    default="more",
                    tooltip="near stops at the target; more and less go on for ever, and ruin images unless another "
                    "reward holds against them.",
                ),
                io.Float.Input(
                    "target",
                    default=0.0,
                    min=-100000.0,
                    max=100000.0,
                    step=0.01,
                    tooltip="The value to come to when direction is near; unused otherwise. Pave Image Statistic and "
                    "the summary tell where images are now.",
                ),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def execute(cls, statistic: str, direction: Direction, target: float) -> io.NodeOutput:
        return io.NodeOutput(StatisticReward(statistic, direction, target))


class PaveColour(io.ComfyNode):
    """A preference for one colour."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def channel(name: str, default: float) -> Any:
            return io.Float.Input(
                name,
                default=default,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip=f"Images turn toward this colour: how much {name} is in it, 0 to 1.",
            )

        return schema.schema(
            "PaveColour",
            "Pave Colour",
            terms=["color", "palette", "tint"],
            description="Reward: a smooth preference for one colour, the mean over all pixels. The simplest reward, to "
            "see the method work. Alone it floods the image with the colour: mix it with a CLIP score.",
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
                        tooltip="Small is strict, and may not see a first step in the right direction: the distance "
                        "in RGB at which a pixel's score has fallen to 0.61.",
                    )
                ),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def execute(cls, red: float, green: float, blue: float, softness: float) -> io.NodeOutput:
        return io.NodeOutput(ColourReward(red, green, blue, softness))


NODES = [PaveColour, PaveStatisticsReward, PaveJPEGSize, PaveOCR]
