"""A workflow file by itself: whether it is in the page's format and does not contradict itself.

`Graph` follows links as the page does, through Reroute and bypassed nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

MUTED, BYPASSED = 2, 4

Node = dict[str, Any]


class Link(NamedTuple):
    """An entry of the list of links: from the output slot of one node to the input slot of another."""

    id: int
    origin: int
    origin_slot: int
    target: int
    target_slot: int
    type: str


class Graph:
    """The nodes and links of a workflow by their ids."""

    def __init__(self, workflow: dict[str, Any]):
        self.nodes: dict[int, Node] = {node["id"]: node for node in workflow["nodes"]}
        self.links: dict[int, Link] = {link[0]: Link(*link) for link in workflow["links"]}

    def source(self, link: int | None, wanted: str) -> tuple[Node, int] | None:
        """The node and its output that feed an input of type `wanted` through `link`; None if nothing does.

        The node may be muted.
        """
        if link is None:
            return None
        _, origin, slot, *_ = self.links[link]
        node = self.nodes[origin]
        if node["type"] == "PrimitiveNode":
            return None
        if node["type"] == "Reroute" or node["mode"] == BYPASSED:
            # The input in the output's place if its type fits, else the first one that fits.
            inputs = entries(node, "inputs")
            passed = next(
                (socket for socket in (*inputs[slot : slot + 1], *inputs) if fits(socket["type"], wanted)), {}
            )
            return self.source(passed.get("link"), wanted)
        return node, slot


def entries(holder: dict[str, Any], key: str) -> list[Any]:
    """The inputs or outputs of a node, or the links of an output; the page leaves out an empty list or writes null."""
    return holder.get(key) or []


def fits(received: str, wanted: str) -> bool:
    """Whether an output of one type may feed an input of another; each may be a union, "FLOAT,INT", or anything, "*".

    This is the host's rule (comfy_execution/validation.py).
    """
    outputs, inputs = ({part.strip() for part in type_.split(",")} for type_ in (received, wanted))
    return "*" in outputs | inputs or not outputs.isdisjoint(inputs)


def at(node: Node, name: str = "") -> str:
    """A node, or its input of this name, as messages call it."""
    return f"node {node['id']} {node['type']}" + (f".{name}" if name else "")


def file_findings(workflow: Any) -> list[str]:
    """What the first check that finds something says about a file itself: each relies on the ones before it."""
    if message := misfit(workflow):
        return [message]
    graph = Graph(workflow)
    for check in duplicates(workflow), loose_ends(graph), circles(graph), subgraphs(workflow):
        if found := list(check):
            return found
    return []


def misfit(workflow: Any) -> str | None:
    """Why this is not a workflow in the page's format; None when it is one."""
    if not isinstance(workflow, dict):
        return "is not a workflow"
    if any(isinstance(value, dict) and "class_type" in value for value in workflow.values()):
        return "is in API format: save it from the page with Save, not with Export (API)"
    nodes, links = workflow.get("nodes"), workflow.get("links")
    if not isinstance(nodes, list) or not nodes:
        return "has no nodes"
    if not all(isinstance(node, dict) and {"id", "type", "mode"} <= node.keys() for node in nodes):
        return "has a node without id, type or mode"
    slots = [slot for node in nodes for side in ("inputs", "outputs") for slot in entries(node, side)]
    if not all({"name", "type"} <= slot.keys() for slot in slots):
        return "has an input or output without name or type"
    if not isinstance(links, list) or not all(
        isinstance(link, list) and len(link) == len(Link._fields) for link in links
    ):
        return "has no list of links [id, origin, origin slot, target, target slot, type], as version 0.4 does"
    return None


def duplicates(workflow: dict[str, Any]) -> Iterator[str]:
    """Ids that two nodes or two links share."""
    ids = {"node": [node["id"] for node in workflow["nodes"]], "link": [link[0] for link in workflow["links"]]}
    for kind, used in ids.items():
        yield from (f"{kind} id {id_} is used {count} times" for id_, count in Counter(used).items() if count > 1)


def loose_ends(graph: Graph) -> Iterator[str]:
    """Where the list of links and the slots of the nodes disagree."""
    listed = [(link.id, "output", link.origin, link.origin_slot) for link in graph.links.values()]
    listed += [(link.id, "input", link.target, link.target_slot) for link in graph.links.values()]
    held = []
    for node in graph.nodes.values():
        for n, slot in enumerate(entries(node, "outputs")):
            held += [(link, "output", node["id"], n) for link in entries(slot, "links")]
        fed = ((n, slot.get("link")) for n, slot in enumerate(entries(node, "inputs")))
        held += [(link, "input", node["id"], n) for n, link in fed if link is not None]
    for link, side, node, n in listed:
        if node not in graph.nodes:
            yield f"link {link} has its {side} at node {node}, which is not there"
        elif (link, side, node, n) not in held:
            yield f"link {link} is not at {side} {n} of node {node}, where the list of links has it"
    for link, side, node, n in held:
        if (link, side, node, n) not in listed:
            yield f"link {link} is at {side} {n} of node {node}, where the list of links does not have it"


def circles(graph: Graph) -> Iterator[str]:
    """A circle of links, if there is one."""
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for link in graph.links.values():
        sorter.add(link.target, link.origin)
    try:
        sorter.prepare()
    except CycleError as error:
        yield f"the links go in a circle: nodes {' -> '.join(map(str, error.args[1]))}"


def subgraphs(workflow: dict[str, Any]) -> Iterator[str]:
    """Nodes that stand for a subgraph."""
    defined = {subgraph["id"] for subgraph in workflow.get("definitions", {}).get("subgraphs", [])}
    used = (node["id"] for node in workflow["nodes"] if node["type"] in defined)
    return (f"node {id_} is a subgraph: not supported, unpack it" for id_ in used)
