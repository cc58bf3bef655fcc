"""The prompt, which is the host's word for a queued graph, that is being validated or run.

The host does not hand it to validate_inputs and fingerprint_inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

from ....pave_core.errors import ConfigError
from .expansion import wire_outside
from .graph import Graph, Wired

Inputs = Mapping[str, Any]

_posted: ContextVar[tuple[Wired, Mapping[str, Inputs]] | None] = ContextVar("pave_posted_prompt", default=None)
"""The prompt, and the inputs of its nodes as they were posted: the host converts them in place."""


def register() -> None:
    """Keep each posted prompt while the host validates it, which it does in the same task; and see wire_outside()."""

    def remember(request: dict[str, Any]) -> dict[str, Any]:
        prompt: Any = request.get("prompt")
        _posted.set(None)  # what is not whole, the host itself refuses
        if isinstance(prompt, dict) and all(
            isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in prompt.values()
        ):
            wire_outside(prompt)
            _posted.set((Wired(prompt), {name: dict(node["inputs"]) for name, node in prompt.items()}))
        return request

    PromptServer.instance.add_on_prompt_handler(remember)


def validated(check: Callable[[Graph, str], object]) -> bool | str:
    """For validate_inputs: True, or the message of the ConfigError that check(graph, id of the node) raises."""
    found, context = _posted.get(), get_executing_context()
    if found is None or context is None or context.node_id not in found[0]:
        return True  # the prompt was not posted to the server: the node itself checks when it runs
    try:
        check(found[0], context.node_id)
    except ConfigError as error:
        return str(error)
    return True


def posted() -> Inputs | None:
    """The inputs, as they were posted, of the node that is being validated; None if its prompt was not posted."""
    found, context = _posted.get(), get_executing_context()
    return None if found is None or context is None else found[1].get(context.node_id)


def running() -> tuple[Graph, str] | None:
    """For fingerprint_inputs: (the graph that is about to run, the id of the node that is asked), or None."""
    found = _item()
    return None if found is None else (found[0][2], found[1])


def workflow() -> Any:
    """The graph as the page has it, from which the node that runs was queued; None where it was queued without one."""
    found = _item()
    extra = found[0][3].get("extra_pnginfo") if found is not None else None
    return extra.get("workflow") if isinstance(extra, dict) else None


def _item() -> tuple[Any, str] | None:
    """(the host's entry of the prompt that runs, the id of the node that is asked or runs)."""
    context = get_executing_context()
    if context is None:
        return None
    items, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return next(((item, context.node_id) for item in items if item[1] == context.prompt_id), None)
