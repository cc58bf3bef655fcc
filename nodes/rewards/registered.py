"""Rewards of other node packs as a node, by name."""

from __future__ import annotations

from comfy_api.latest import io

from ...pave_core.errors import quoted
from ...pave_core.rewards import registry
from ..shared import schema

NONE_REGISTERED = "none registered"


class PaveRegisteredReward(io.ComfyNode):
    """A reward that another pack registered."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        offers = registry.registered()
        told = "".join(f" {name}: {description}" for name, description in offers.items() if description)
        return schema.schema(
            "PaveRegisteredReward",
            "Pave Reward From Another Pack",
            terms=["custom reward", "plugin", "register", "extension"],
            description="Reward: one that another node pack has registered with this one. How a pack does that is in "
            "docs/rewards/README.md.",
            inputs=[
                io.Combo.Input(
                    "reward",
                    options=list(offers) or [NONE_REGISTERED],
                    tooltip=f"The rewards that the packs in custom_nodes offer.{told}",
                )
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, reward: str | None = None) -> bool | str:
        if reward is None or reward in registry.registered():
            return True
        return (
            f"reward: {quoted(reward)} is not offered by any pack in custom_nodes: install one that registers it, and "
            "restart"
        )

    @classmethod
    def execute(cls, reward: str) -> io.NodeOutput:
        return io.NodeOutput(registry.make(reward))


NODES = [PaveRegisteredReward]
