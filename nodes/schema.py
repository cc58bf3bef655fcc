"""What the nodes' schemas share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

CATEGORY = "Pave-GRPO"

Prompts = io.Custom("PAVE_PROMPTS")
Reward = io.Custom("PAVE_REWARD")
LoraModel = io.Custom("LORA_MODEL")
LossMap = io.Custom("LOSS_MAP")


def advanced(widget: Any) -> Any:
    """Mark an input as one for experts; hosts that know the mark fold it away."""
    widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widget
