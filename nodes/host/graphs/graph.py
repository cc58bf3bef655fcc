"""The host's graphs, in its API format {node id: {"class_type", "inputs"}}: which nodes depend on which.

loop      Pave Loop Begin -> body -> Pave Loop End; the body is the nodes between, and those that lead from them to an
          output node
training  the nodes that depend on a Pave Begin, up to its Pave Finish
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from ....pave_core.errors import ConfigError

Graph = Mapping[str, Mapping[str, Any]]

LOOP_BEGIN, LOOP_END, BEGIN, FINISH = "PaveLoopBegin", "PaveLoopEnd", "PaveBegin", "PaveFinish"
ROLLOUT, ADVANTAGE, LOSS, OPTIMIZER_STEP = "PaveRollout", "PaveAdvantage", "PaveDecompositionLoss", "PaveOptimizerStep"
CANDIDATES, CHOICE, CONTRAST = "PaveCandidates", "PaveChoosePrompts", "PaveContrast"


class Wired(dict[str, Mapping[str, Any]]):
    """A graph that knows what each output is wired to: found once, since each of a thousand nodes asks."""

    @cached_property
    def users(self) -> dict[str, list[tuple[int, str, str]]]:
        """{node: [(output slot, node that uses it, input there)]}."""
        found: dict[str, list[tuple[int, str, str]]] = {}
        for node in self:
            for name, source, slot in sources(self[node]):
                found.setdefault(source, []).append((slot, node, name))
        return found

    @cached_property
    def changers(self) -> dict[tuple[str, int], list[str]]:
        """{(node, output slot): the nodes that change the state that it gives}."""
        found: dict[tuple[str, int], list[str]] = {}
        for source, users in self.users.items():
            for slot, node, name in users:
                if name == "state" and self[node]["class_type"] in (CHOICE, LOSS, OPTIMIZER_STEP):
                    found.setdefault((source, slot), []).append(node)
        return found

    @classmethod
    def of(cls, graph: Graph) -> Wired:
        """`graph` itself if it is one."""
        return graph if isinstance(graph, Wired) else cls(graph)


def sources(node: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(input name, id of the node it comes from, output slot there) of each link into `node`."""
    for name, value in node["inputs"].items():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            yield name, value[0], value[1]


def ancestors(graph: Graph, start: Iterable[str]) -> set[str]:
    """The nodes that `start` depends on, and `start` itself."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in found and node in graph:
            found.add(node)
            waiting += [source for _, source, _ in sources(graph[node])]
    return found


def descendants(graph: Graph, start: str, past: Callable[[str], bool] = lambda node: True) -> set[str]:
    """The nodes that depend on `start`, without those that do so only through a node for which `past` is False."""
    users = Wired.of(graph).users
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for _, node, _ in users.get(waiting.pop(), ()):
            if node not in found:
                found.add(node)
                if past(node):
                    waiting.append(node)
    return found


def loop_body(graph: Graph, begin: str, end: str, is_output: Callable[[str], bool]) -> set[str]:
    """The nodes between a Pave Loop Begin and its Pave Loop End, and those that lead from them to an output node.

    ConfigError where a node after the loop reads from inside it: it would get the value of the first iteration.
    """
    after = descendants(graph, end)
    inside = descendants(graph, begin, past=lambda node: node != end) - {end} - after
    for node in after:
        for name, source, _ in sources(graph[node]):
            if source in inside:
                raise ConfigError(
                    f"{name}: node {node} ({graph[node]['class_type']}) runs after the loop and reads from node "
                    f"{source} inside it: carry the value through the value sockets of Pave Loop Begin and Pave Loop "
                    "End"
                )
    return inside & ancestors(graph, [end, *(node for node in inside if is_output(node))])


def training_digest(graph: Graph, begin: str) -> str:
    """A digest of the nodes that depend on a Pave Begin, up to Pave Finish, and of all that these need."""
    part = descendants(graph, begin, past=lambda node: graph[node]["class_type"] != FINISH)
    return digest(graph, ancestors(graph, [begin, *part]))


def digest(graph: Graph, nodes: Iterable[str]) -> str:
    """A digest of the types, wires and settings of `nodes`."""
    parts = [[node, graph[node]["class_type"], graph[node]["inputs"]] for node in sorted(nodes)]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=repr).encode(), digest_size=16).hexdigest()
