"""The answer of a server for one image: a score, or the reason why there is none."""

from __future__ import annotations

import math

from ...errors import shortened

MAX_KEPT = 1000
"""Characters of a reply that are kept for a message: there may be hundreds of megabytes of them."""


class Unscored(Exception):  # noqa: N818  not an error of the program: one image without a score
    """Why an image got no score, and what to do about it.

    reply: what the server sent, for the message. final: asking again cannot help. retry_after: the pause in seconds
    that the server asked for, if it did.
    """

    def __init__(
        self, reason: str, remedy: str, *, reply: str = "", final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
        self.reply, self.final, self.retry_after = shortened(reply, MAX_KEPT), final, retry_after


Answer = float | Unscored


def is_score(value: float) -> bool:
    """Whether `value` is a number, not NaN, and one that fp32 can hold."""
    return abs(value) < 1e30


def as_number(value: int | float) -> float:
    """`value` as a float; an integer too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
