"""The mix of rewards as a node."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io

from ...pave_core.scoring.mix import Normalise, RewardMix
from ..shared import schema
from ..shared.schema import Reward

MIX_SIZE = 4


class PaveRewardMix(io.ComfyNode):
    """Several rewards with weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = []
        for i in range(1, MIX_SIZE + 1):
            inputs.append(
                Reward.Input(
                    f"reward_{i}",
                    optional=i > 1,
                    tooltip="A reward. Each keeps the others from being fooled, and costs its own scoring.",
                )
            )
            inputs.append(
                io.Float.Input(
                    f"weight_{i}",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip=f"How much reward_{i} counts beside the others: begin with 1 each, and raise that of the "
                    "one that falls. 0: only shown. With a negative weight, lower is better.",
                )
            )
        inputs.append(
            io.Combo.Input(
                "normalise",
                options=list(get_args(Normalise)),
                default="within group",
                tooltip="within group is the usual choice: the sizes of the scores do not matter, as each reward gets "
                "mean 0 and spread 1 within a group before the weights. raw: the weighted sum as it is, for rewards "
                "of one size, as in quickstart_taste.",
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


NODES = [PaveRewardMix]
