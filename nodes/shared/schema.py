"""What the nodes' schemas share: categories, the pack's types, and helpers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ...pave_core.errors import ConfigError

CATEGORY = "Pave-GRPO"
STEPS = f"{CATEGORY}/steps"
SETTINGS = f"{CATEGORY}/settings"

Policy = io.Custom("PAVE_POLICY")
Prompts = io.Custom("PAVE_PROMPTS")
Reward = io.Custom("PAVE_REWARD")
LoraSettings = io.Custom("PAVE_LORA_SETTINGS")
RolloutSettings = io.Custom("PAVE_ROLLOUT_SETTINGS")
Objective = io.Custom("PAVE_OBJECTIVE")
Optimizer = io.Custom("PAVE_OPTIMIZER")
Memory = io.Custom("PAVE_MEMORY_SETTINGS")
State = io.Custom("PAVE_STATE")
Rollout = io.Custom("PAVE_ROLLOUT")
Scores = io.Custom("PAVE_SCORES")
Advantages = io.Custom("PAVE_ADVANTAGES")
Candidates = io.Custom("PAVE_CANDIDATES")
Guard = io.Custom("PAVE_GUARD")
Loop = io.Custom("PAVE_LOOP")
LoraModel = io.Custom("LORA_MODEL")
LossMap = io.Custom("LOSS_MAP")


def reward_output() -> Any:
    """The output of a reward node."""
    return Reward.Output(display_name="reward", tooltip="For Pave Train or Pave Reward Mix.")


def advanced(widget: Any) -> Any:
    """Mark an input as one for experts, and return it; hosts that know the mark fold it away."""
    widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widget


def schema(
    node_id: str, display_name: str, description: str, *, terms: list[str], category: str = CATEGORY, **parts: Any
) -> io.Schema:
    """A node's schema. terms: other names for it, by which hosts find the node if their search knows aliases."""
    made = io.Schema(node_id=node_id, display_name=display_name, category=category, description=description, **parts)
    if hasattr(made, "search_aliases"):
        made.search_aliases = terms  # pyright: ignore[reportAttributeAccessIssue]
    return made


def checked(make: Callable[[], object]) -> bool | str:
    """For validate_inputs: True, or the message of the ConfigError that `make` raises."""
    try:
        make()
    except ConfigError as error:
        return str(error)
    return True
