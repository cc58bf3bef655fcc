"""What the host's cache may do with a training run.

The cache keys a node's output by its inputs and those of its ancestors. Pave Begin adds a number of its own: a new one
whenever the run must begin anew, the old one when only what comes after Pave Finish has changed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..graphs import graph, queue


@dataclass
class Ticket:
    """What is known of the last run of a Pave Begin node."""

    number: int
    training: str  # digest of the training part of its graph
    whole: str  # digest of the graph when it last ran
    finished: bool = False


_tickets: dict[str, Ticket] = {}  # by Pave Begin's node id
_serial = itertools.count()


def ticket_of(begin: str | None) -> Ticket | None:
    """The ticket of a Pave Begin."""
    return _tickets.get(begin or "")


def fingerprint() -> int:
    """The number that the outputs of the Pave Begin that is asked are cached under.

    It is a new one, so that the run begins anew: for a graph that is queued again as it was, after a change in the training
    part, and after a run that did not reach Pave Finish. It stays when only something after Pave Finish has changed.
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
