"""The loop of step nodes, by the host's node expansion.

When Pave Loop End runs, one iteration is done. It then gives the host copies of the loop's body for the next
iterations, chained by the values that go around the loop, and a copy of itself after them, until all iterations are
done. One expansion has CHUNK copies, since every expansion nests in the one before and the host walks the nesting
recursively; it has fewer if the run's guard measures before, which may end the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_execution.graph import DynamicPrompt
from comfy_execution.graph_utils import is_link

import nodes as host_nodes

from ....pave_core.errors import ConfigError, quoted
from .checks import check_loop_end
from .graph import loop_body

CHUNK = 16
CARRIED = ("state", "value")
"""The inputs of Pave Loop End whose values Pave Loop Begin gives out in the next iteration."""
OUTPUT_SLOTS = {"loop": 0, "state": 1, "value": 2, "iteration": 3}
"""The outputs of Pave Loop Begin, by slot."""


@dataclass(frozen=True)
class Loop:
    """PAVE_LOOP: the loop that a Pave Loop End closes, and how far it is."""

    begin: str  # the node id of Pave Loop Begin
    iterations: int  # how many there are
    index: int = 0  # the iteration that has just run, from 0
    end: str = ""  # the node id of the first Pave Loop End
    # The nodes to copy, as they are in the graph.
    body: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    # Node of the body -> the node on the canvas that it is a copy of.
    shown_as: Mapping[str, str] = field(default_factory=dict, repr=False)


def next_iterations(
    loop: Loop, end: str, *, inputs: Mapping[str, Any], prompt: DynamicPrompt, at_most: int | None = None
) -> tuple[dict[str, Any], list[Any]] | None:
    """(the nodes of the next iterations, the links to Pave Loop End's outputs); None when all iterations are done.

    end: the id of the Pave Loop End that runs; inputs: its input values by name; at_most: how many iterations, beside
    CHUNK. ConfigError where the wires do not make a loop.
    """
    if loop.index + 1 >= loop.iterations:
        return None
    if not loop.end:
        loop = _with_body(loop, end, prompt)
    carried: dict[str, Any] = {name: _plain(name, inputs.get(name)) for name in CARRIED}
    new: dict[str, Any] = {}
    last = min(loop.index + min(CHUNK, at_most or CHUNK), loop.iterations - 1)
    for index in range(loop.index + 1, last + 1):
        prefix = f"{loop.end}.{index}."
        begin_outputs = {OUTPUT_SLOTS[name]: value for name, value in carried.items()} | {
            OUTPUT_SLOTS["iteration"]: index
        }
        for node, info in loop.body.items():
            wired = {name: _wire(value, loop, prefix, begin_outputs) for name, value in info["inputs"].items()}
            if node == loop.end:
                carried = {name: value for name, value in wired.items() if name in CARRIED}
            else:
                new[prefix + node] = {
                    "class_type": info["class_type"],
                    "inputs": wired,
                    "override_display_id": loop.shown_as[node],
                }
    closing = f"{loop.end}.{last}.#"
    new[closing] = {
        "class_type": loop.body[loop.end]["class_type"],
        "inputs": {"loop": replace(loop, index=last), **carried},
        "override_display_id": loop.shown_as[loop.end],
    }
    return new, [[closing, slot] for slot in range(len(CARRIED))]


def _wire(value: Any, loop: Loop, prefix: str, begin_outputs: Mapping[int, Any]) -> Any:
    """The value or link of an input in the copy with `prefix` of a node of the body.

    A link within the body goes to the copy, one to Pave Loop Begin becomes what this iteration begins with.
    """
    if not is_link(value):
        return value
    source, slot = value
    if source == loop.begin:
        return begin_outputs.get(slot)
    return [prefix + source, slot] if source in loop.body else value


def _plain(name: str, value: Any) -> Any:
    """`value`; ConfigError if the host would take it for a link."""
    if is_link(value):
        raise ConfigError(
            f"{name}: {quoted(value)} is what the host writes for a wire and cannot go around a loop: carry it in "
            "another form, such as text"
        )
    return value


def _with_body(loop: Loop, end: str, prompt: DynamicPrompt) -> Loop:
    """`loop` with its body, whose last node is `end`, read from the graph."""
    graph = {node: prompt.get_node(node) for node in prompt.all_node_ids()}
    check_loop_end(graph, end)

    def is_output(node: str) -> bool:
        return bool(getattr(host_nodes.NODE_CLASS_MAPPINGS[graph[node]["class_type"]], "OUTPUT_NODE", False))  # pyright: ignore[reportAttributeAccessIssue]

    body = sorted(loop_body(graph, loop.begin, end, is_output) | {end})
    shown_as = {node: prompt.get_display_node_id(node) for node in body}
    return replace(loop, end=end, body={node: graph[node] for node in body}, shown_as=shown_as)
