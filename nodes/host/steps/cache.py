"""Whether the host's cache may reuse a training run.

The cache keys a node's output by its inputs and those of its ancestors. Pave Begin adds a number to its key: a new one
whenever the run must begin anew, the old one if only nodes after Pave Finish have changed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..graphs import graph, queue


@dataclass
class Ticket:
    """The record of the last run of a Pave Begin node."""

    number: int  # in the cache's key
    training: str  # digest of the training part of its graph
    whole: str  # digest of the whole graph when it last ran
    finished: bool = False  # whether Pave Finish was reached


_tickets: dict[str, Ticket] = {}  # by Pave Begin's node id
_serial = itertools.count()


def ticket_of(begin: str | None) -> Ticket | None:
    """The ticket of the Pave Begin with this node id, if it has one."""
    return _tickets.get(begin or "")


def fingerprint() -> int:
    """The number in the cache's key, for the Pave Begin whose fingerprint_inputs the host calls.

    It is new, so that the run begins anew, for a graph that is queued again unchanged, after a change in the training
    part, and after a run that did not reach Pave Finish. It is the old one if only nodes after Pave Finish changed.
    """
    found = queue.running()
    if found is None or found[1] not in found[0]:
        return next(_serial)
    prompt, node = found
    training, whole = graph.training_digest(prompt, node), graph.digest(prompt, prompt)
    last = _tickets.get(node)
    if last is not None and last.finished and last.training == training and last.whole != whole:
        last.whole = whole
    else:
        _tickets[node] = Ticket(next(_serial), training, whole)
    return _tickets[node].number
