"""The settings of memory as a node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pave_core.config.memory import MemoryConfig
from ..pave_core.config.presets import CUSTOM
from .shared import schema
from .shared.presets import MEMORY_PRESET_NAMES, memory_config
from .shared.widgets import names_of, widgets


class PaveMemory(io.ComfyNode):
    """The settings of memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveMemory",
            "Pave Memory",
            "Fits a training run into the memory of your card: what is computed again instead of kept, how many images "
            "are decoded at once, and how much of the model stays in system memory. What is learnt stays the same.",
            terms=["vram", "out of memory", "low vram", "gradient checkpointing", "offload"],
            category=schema.SETTINGS,
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=MEMORY_PRESET_NAMES,
                    default=CUSTOM,
                    tooltip="Your card's memory. Choosing one fills the fields below for a model such as FLUX.1-dev, "
                    "loaded with weight_dtype fp8; smaller models need less offload. The run uses what the fields say.",
                ),
                *widgets(*names_of(MemoryConfig)),
            ],
            outputs=[
                schema.Memory.Output(
                    display_name="memory", tooltip="For Pave Train, Pave Train (Advanced) or Pave Begin."
                )
            ],
        )

    @classmethod
    def execute(cls, preset: str, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(memory_config(preset, values))


NODES = [PaveMemory]
