"""The answer for one image: a number, or why there is none."""

from __future__ import annotations

import math


class Unscored(Exception):  # noqa: N818  no error of the program: one image without a score
    """Why an image got no score. `final`: asking again can not help."""

    def __init__(
        self, reason: str, remedy: str, reply: str = "", final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.reply, self.final, self.retry_after = reason, remedy, reply, final, retry_after


Answer = float | Unscored


def is_score(value: float) -> bool:
    """Whether it is a number, and one that fp32 can hold."""
    return abs(value) < 1e30


def as_number(value: int | float) -> float:
    """As a float; an integer too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
