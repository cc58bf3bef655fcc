"""Checks of the wires of a training graph, before anything runs."""

from __future__ import annotations

from ....pave_core.errors import ConfigError
from .graph import (
    ADVANTAGE,
    BEGIN,
    LOOP_BEGIN,
    LOOP_END,
    LOSS,
    OPTIMIZER_STEP,
    ROLLOUT,
    Graph,
    Wired,
    ancestors,
    descendants,
    loop_body,
    sources,
)

CROWD = 8
"""From so many nodes on that change one state, the node that gives it is refused, not each of them."""


def check_loop_begin(graph: Graph, begin: str) -> None:
    """ConfigError unless exactly one Pave Loop End belongs to this Pave Loop Begin."""
    check_crowd(graph, begin)
    users = Wired.of(graph).users.get(begin, [])
    ends = [node for _, node, name in users if name == "loop" and graph[node]["class_type"] == LOOP_END]
    if not ends:
        raise ConfigError(
            "loop: this loop has no end: connect the loop socket to a Pave Loop End, and the last state of the loop's "
            "body"
        )
    if len(ends) > 1:
        raise ConfigError(f"loop: this loop has {len(ends)} ends (nodes {', '.join(ends[:CROWD])}): keep one")


def check_loop_end(graph: Graph, end: str) -> None:
    """ConfigError where the wires of a Pave Loop End are crossed with those of another loop."""
    check_crowd(graph, end)
    begin = _loop_of(graph, end)
    if begin is None:
        return  # not connected, which the host says itself
    body = descendants(graph, begin)
    state = _wire(graph, end, "state")
    if state and state[0] not in body:
        raise ConfigError(
            f"state: it does not come out of the loop that begins at node {begin}: the wires of two loops are crossed, "
            "or a wire goes around the loop; connect the last node of this loop's body"
        )
    inside = descendants(graph, begin, past=lambda node: node != end) & ancestors(graph, [end])
    for node in inside:
        if graph[node]["class_type"] == LOOP_BEGIN and not any(
            graph[other]["class_type"] == LOOP_END and other != end and _loop_of(graph, other) == node
            for other in inside
        ):
            raise ConfigError(
                f"loop: the loop that begins at node {node} begins inside this one and does not end in it: the wires "
                "are crossed"
            )
    loop_body(graph, begin, end, lambda node: False)


def _loop_of(graph: Graph, end: str) -> str | None:
    """The Pave Loop Begin that a Pave Loop End is connected to."""
    begin = _wire(graph, end, "loop")
    return begin[0] if begin else None


def check_loss(graph: Graph, loss: str) -> None:
    """ConfigError where a Pave Decomposition Loss shares its state, or its rollout or advantages belong to another."""
    _check_single_use(graph, loss)
    rollout = _wire(graph, loss, "rollout")
    if rollout and graph[rollout[0]]["class_type"] == ROLLOUT:
        ours, theirs = (_before_losses(graph, node) for node in (loss, rollout[0]))
        if ours and theirs and ours != theirs:
            raise ConfigError(
                f"rollout: node {rollout[0]} samples from the state of node {theirs[0]}, this loss belongs to that of "
                f"node {ours[0]}: connect the Pave Rollout of the same state"
            )
    advantages = _wire(graph, loss, "advantages")
    if (
        advantages
        and graph[advantages[0]]["class_type"] == ADVANTAGE
        and rollout != _wire(graph, advantages[0], "rollout")
    ):
        raise ConfigError(
            f"advantages: node {advantages[0]} compares another rollout: connect the Pave Advantage that this rollout "
            "goes into"
        )


def check_choice(graph: Graph, choice: str) -> None:
    """ConfigError where a Pave Choose Prompts shares its state."""
    _check_single_use(graph, choice)


def check_optimizer_step(graph: Graph, step: str) -> None:
    """ConfigError where a Pave Optimizer Step shares its state, or no loss comes before it."""
    _check_single_use(graph, step)
    state = _wire(graph, step, "state")
    if state and graph[state[0]]["class_type"] in (BEGIN, LOOP_BEGIN, OPTIMIZER_STEP, LOOP_END):
        raise ConfigError(
            f"state: it comes straight from node {state[0]}, with no gradient: put a Pave Decomposition Loss between, "
            "which takes and gives the state"
        )


def _check_single_use(graph: Graph, node: str) -> None:
    """ConfigError where the state that goes into `node` also goes into another node that changes it."""
    check_crowd(graph, node)
    state = _wire(graph, node, "state")
    changers = Wired.of(graph).changers.get(state, []) if state else []
    others = [other for other in changers[:CROWD] if other != node]
    if state and others and len(changers) < CROWD:
        raise ConfigError(
            f"state: nodes {node} and {others[0]} both change the state that node {state[0]} gives: wire them one "
            "after the other"
        )


def check_crowd(graph: Graph, giver: str) -> None:
    """ConfigError where CROWD nodes or more change the state that this node gives.

    They are told once, by the node that they share: the host would list all their outputs for each of them.
    """
    for slot in (0, 1):  # Pave Loop Begin gives its state in slot 1
        changers = Wired.of(graph).changers.get((giver, slot), [])
        if len(changers) >= CROWD:
            raise ConfigError(
                f"state: {len(changers)} nodes ({', '.join(changers[:3])}, ...) change the state that node {giver} "
                "gives: wire them one after the other"
            )


def _wire(graph: Graph, node: str, name: str) -> tuple[str, int] | None:
    """(node, output slot) that the input `name` of `node` is linked to; None without a link."""
    return next(
        ((source, slot) for each, source, slot in sources(graph[node]) if each == name and source in graph), None
    )


def _before_losses(graph: Graph, node: str) -> tuple[str, int] | None:
    """(node, output slot) that the state of `node` comes from, before the losses that only add a gradient to it."""
    state = _wire(graph, node, "state")
    while state and graph[state[0]]["class_type"] == LOSS:
        state = _wire(graph, state[0], "state")
    return state


def check_steps(graph: Graph, finish: str) -> None:
    """ConfigError where no Pave Optimizer Step is between Pave Begin and this Pave Finish."""
    before = ancestors(graph, [finish])
    if any(graph[node]["class_type"] == BEGIN for node in before) and not any(
        graph[node]["class_type"] == OPTIMIZER_STEP for node in before
    ):
        raise ConfigError(
            "state: no training step comes before Pave Finish: put Pave Rollout ... Pave Optimizer Step between Pave "
            "Begin and here"
        )
