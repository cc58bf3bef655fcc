"""The loop of step nodes, by the host's node expansion.

When Pave Loop End runs, one iteration is done. It then gives the host nodes for those that are left: one of them, as
copies of the loop's body; or several, as up to BRANCHES copies of itself, one after the other, each with a part of
them. So the expansions are a tree whose leaves are iterations: the host walks their nesting recursively, and its key of
a node in the cache repeats all nodes that lead to it, which here are those of one iteration.

What the body takes from nodes outside the loop is passed to the copies as values. By wires, a cache that has dropped an
output would run the node behind the wire again: a reward would load its network again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_execution.graph import DynamicPrompt, ExecutionBlocker, get_input_info
from comfy_execution.graph_utils import is_link

import nodes as host_nodes

from ....pave_core.errors import ConfigError, quoted
from .checks import check_loop_end, loop_of
from .graph import LOOP_END, Graph, ancestors, loop_body, sources

BRANCHES = 4
"""The most parts into which a Pave Loop End divides the iterations that are left."""
CARRIED = ("state", "value")
"""The inputs of Pave Loop End whose values Pave Loop Begin gives out in the next iteration."""
OUTPUT_SLOTS = {"loop": 0, "state": 1, "value": 2, "iteration": 3}
"""The outputs of Pave Loop Begin, by slot."""
NOT_RUN = ExecutionBlocker(None)
"""In place of an output: the host runs nothing that depends on it, and says nothing."""
MOST_LOOPS = 32
"""In a graph with more, wire_outside() does nothing: it looks at the whole graph for each, while the server waits."""

Wire = tuple[str, int]  # node id, output slot


@dataclass(frozen=True)
class Loop:
    """PAVE_LOOP: the loop that a Pave Loop End closes, and what is left of it."""

    begin: str  # the node id of Pave Loop Begin
    owner: Any  # the StepRun whose state goes around
    left: range  # the iterations that are to be copied; 0, the graph's own nodes, is not among them
    end: str = ""  # the node id of the first Pave Loop End
    # The nodes to copy, as they are in the graph.
    body: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    # Node of the body -> the node on the canvas that it is a copy of.
    shown_as: Mapping[str, str] = field(default_factory=dict, repr=False)
    # What nodes outside the loop have given, as far as it is known.
    outside: Mapping[Wire, Any] = field(default_factory=dict, repr=False)


def next_iterations(
    loop: Loop, end: str, *, carried: Mapping[str, Any], outside: Mapping[str, list[Any]], prompt: DynamicPrompt
) -> tuple[dict[str, Any], list[Any]]:
    """(the nodes of the iterations that are left, at least one; the links to Pave Loop End's outputs).

    end: the id of the Pave Loop End that runs; carried: its values of CARRIED; outside: the values of its inputs that
    wires_outside() names. ConfigError where the wires do not make a loop.
    """
    if not loop.end:
        loop = _with_body(loop, end, prompt)
    wires = wires_outside(loop.body, loop.begin, loop.end)
    found = {wires[name]: values[0] for name, values in outside.items() if len(values) == 1 and not is_link(values[0])}
    loop = replace(loop, outside={**loop.outside, **found})
    first = {name: _plain(name, carried.get(name)) for name in CARRIED}
    return _copies(loop, first) if len(loop.left) == 1 else _parts(loop, first, wires)


def _parts(loop: Loop, carried: dict[str, Any], wires: Mapping[str, Wire]) -> tuple[dict[str, Any], list[Any]]:
    """Copies of Pave Loop End, each with a part of the iterations that are left."""
    unknown = {name: [*wire] for name, wire in wires.items() if wire not in loop.outside}
    size = 1
    while size * BRANCHES < len(loop.left):
        size *= BRANCHES
    new: dict[str, Any] = {}
    for start in range(0, len(loop.left), size):
        part = loop.left[start : start + size]
        closing = f"{loop.end}.{part[0]}-{part[-1]}"
        inputs = {"loop": replace(loop, left=part), **carried, **unknown}
        new[closing] = {"class_type": LOOP_END, "inputs": inputs, "override_display_id": loop.shown_as[loop.end]}
        carried = {name: [closing, slot] for slot, name in enumerate(CARRIED)}
    return new, list(carried.values())


def _copies(loop: Loop, carried: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Copies of the body's nodes for the one iteration that is left."""
    (index,) = loop.left
    prefix = f"{loop.end}.{index}."
    begin_outputs = {OUTPUT_SLOTS[name]: value for name, value in carried.items()} | {OUTPUT_SLOTS["iteration"]: index}
    wired = {
        node: {name: _input(info, name, loop, prefix, begin_outputs) for name in _inputs(info, loop)}
        for node, info in loop.body.items()
    }
    new = {
        prefix + node: {
            "class_type": info["class_type"],
            "inputs": wired[node],
            "override_display_id": loop.shown_as[node],
            **_loop_of_host(info, loop, prefix),
        }
        for node, info in loop.body.items()
        if node != loop.end
    }
    return new, [wired[loop.end].get(name) for name in CARRIED]


def _inputs(info: Mapping[str, Any], loop: Loop) -> list[str]:
    """The inputs of a node of the body. A Pave Loop End in it needs no wires from outside whose values are known."""
    own = {name for name, value in info["inputs"].items() if not is_link(value) or tuple(value) not in loop.outside}
    return [name for name in info["inputs"] if name in own or info["class_type"] != LOOP_END]


def _input(info: Mapping[str, Any], name: str, loop: Loop, prefix: str, begin_outputs: Mapping[int, Any]) -> Any:
    """The value or link of the input `name` in the copy with `prefix` of a node of the body.

    A link within the body goes to the copy, one to Pave Loop Begin becomes what this iteration begins with, and one to
    a node outside what that has given.
    """
    value = info["inputs"][name]
    if not is_link(value):
        return value
    source, slot = value
    if source == loop.begin:
        return begin_outputs.get(slot)
    if source in loop.body:
        return [prefix + source, slot]
    known = (source, slot) in loop.outside and _takes_values(info["class_type"], name)
    return loop.outside[source, slot] if known else value


def _loop_of_host(info: Mapping[str, Any], loop: Loop, prefix: str) -> dict[str, Any]:
    """What newer hosts note at a Start Loop of their own, for the copy with `prefix`: the ids of its loop's nodes."""
    if "_loop_end" not in info:
        return {}
    copied = {node: prefix + node for node in loop.body}
    body = [copied.get(node, node) for node in info["_loop_body"]]
    return {"_loop_body": body, "_loop_end": copied.get(info["_loop_end"], info["_loop_end"])}


def _plain(name: str, value: Any) -> Any:
    """`value`; ConfigError if the host would take it for a link."""
    if is_link(value):
        raise ConfigError(
            f"{name}: {quoted(value)} is what the host writes for a wire and cannot go around a loop: carry it in "
            "another form, such as text"
        )
    return value


def wires_outside(body: Graph, begin: str, end: str) -> dict[str, Wire]:
    """{name of an input for `end`: the wire}: from outside the loop to the nodes of its body that lead to its end.

    Not to others of the body: if the host blocks a wire, only what depends on it is not to run.
    """
    found: dict[str, Wire] = {}
    for node in ancestors(body, [end]) - {end}:
        for name, source, slot in sources(body[node]):
            if source not in body and source != begin and _takes_values(body[node]["class_type"], name):
                found[f"{source}[{slot}]"] = source, slot
    return found


def _takes_values(class_type: str, name: str) -> bool:
    """Whether a node may get a value in place of a wire: not where it decides itself whether to ask for it."""
    _, category, options = get_input_info(host_nodes.NODE_CLASS_MAPPINGS[class_type], name)  # pyright: ignore[reportAttributeAccessIssue]
    return category is not None and options is not None and not (options.get("lazy") or options.get("rawLink"))


def wire_outside(graph: dict[str, Any]) -> None:
    """Give each Pave Loop End of a queued graph the wires from outside into its loop, so that it gets their values.

    Without them the copies of Pave Loop End ask for the values, and a cache that has dropped one runs its node again.
    """
    ends = [node for node in graph if graph[node].get("class_type") == LOOP_END]
    for end in ends if len(ends) <= MOST_LOOPS else ():
        begin = loop_of(graph, end)
        try:
            wires = {} if begin is None else wires_outside(_body(graph, begin, end), begin, end)
        except (ConfigError, KeyError):
            continue  # a loop that is wired wrong, or a node that the host does not know: they are refused later
        graph[end]["inputs"] |= {name: [*wire] for name, wire in wires.items()}


def _with_body(loop: Loop, end: str, prompt: DynamicPrompt) -> Loop:
    """`loop` with its body, whose last node is `end`, read from the graph."""
    graph = {node: prompt.get_node(node) for node in prompt.all_node_ids()}
    check_loop_end(graph, end)
    body = _body(graph, loop.begin, end)
    return replace(loop, end=end, body=body, shown_as={node: prompt.get_display_node_id(node) for node in body})


def _body(graph: Graph, begin: str, end: str) -> dict[str, Mapping[str, Any]]:
    """The nodes of a loop's body, and Pave Loop End."""

    def is_output(node: str) -> bool:
        return bool(getattr(host_nodes.NODE_CLASS_MAPPINGS[graph[node]["class_type"]], "OUTPUT_NODE", False))  # pyright: ignore[reportAttributeAccessIssue]

    return {node: graph[node] for node in sorted(loop_body(graph, begin, end, is_output) | {end})}
