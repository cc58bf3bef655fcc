"""A user's regular expression, which may come with a stranger's workflow: compiled and searched in bounded time.

Backtracking takes exponential time at worst, and Python's own `re` holds the interpreter meanwhile: no thread runs, the
server and Cancel included. The package `regex` lets go of the interpreter and stops at a limit. What it does not
bound is refused before it is compiled: counts, of which it makes copies, and recursion and approximate matching, which
take memory as fast as it can be had.
"""

from __future__ import annotations

import re
from functools import lru_cache

import regex

from ...errors import ConfigError, quoted
from .answers import Unscored

MAX_PATTERN = 300
"""Characters of a pattern."""
MAX_COPIES = 20_000
"""Nodes of a compiled pattern, at most: 300 bytes each."""
LIMIT = 0.5
"""Seconds of the processor for one search. Those that users write take a thousandth of that."""
LEAST = LIMIT / 32
"""The limit after five searches in a row that ran out of time."""

_GROUP = re.compile(r"\(\?(?!:|=|!|<=|<!|>|P<\w+>|<\w+>|P=\w+\)|#|\(|[aimsu]+[:)]|[aimsu]*-[ims]+:)")
_FUZZY = re.compile(r"\{[\d\s+<=,]*[deis][\d\s+<=,deis]*[:}]")
_REPEATED = re.compile(r"(\)?)(?:\{([0-9]*)(,?)([0-9]*)\}|(\+))")


class Pattern:
    """A pattern with one group. ConfigError where it is none, or where it cannot be bounded."""

    def __init__(self, text: str) -> None:
        self._compiled = _compiled(text)
        self._limit = LIMIT

    def search(self, text: str) -> str | None:
        """What the group matched at the first match in `text` ("" where it took no part), None without a match.

        Unscored where that takes too long. After each such search the next one gets half the time, so that a hopeless
        pattern is not waited for with every image; a search that ends in time has the whole limit again.
        """
        try:
            found = self._compiled.search(text, timeout=self._limit, concurrent=True)
        except TimeoutError as error:
            self._limit = max(LEAST, self._limit / 2)
            raise Unscored(
                "a pattern that takes too long on the reply",
                "write the pattern without repetitions inside repetitions, and with one .* at most",
                reply=text,
                final=True,
            ) from error
        self._limit = LIMIT
        return None if found is None else found[1] or ""


@lru_cache(maxsize=64)
def pattern_of(text: str) -> Pattern:
    """The pattern, compiled once."""
    return Pattern(text)


def _compiled(text: str) -> regex.Pattern[str]:
    _check_bounds(text)
    try:
        compiled = regex.compile(text, cache_pattern=False)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise ConfigError(
            f"pattern: {quoted(text)} is not a regular expression ({error}): correct it, such as Score: (\\d+)"
        ) from error
    if compiled.groups != 1:
        raise ConfigError(
            f"pattern: {quoted(text)} has {compiled.groups} groups: put one pair of ( ) around the number; others "
            "begin with (?:"
        )
    return compiled


def _check_bounds(text: str) -> None:
    """ConfigError unless compiling `text` takes little time and memory."""
    wrong = f"pattern: {quoted(text)}"
    if len(text) > MAX_PATTERN:
        raise ConfigError(f"{wrong} has {len(text)} characters: shorten it to {MAX_PATTERN}")
    if _GROUP.search(text):
        raise ConfigError(f"{wrong} has a group of an unknown kind: take (?: ), (?= ), (?! ), (?<= ), (?<! ) or (?i)")
    if _FUZZY.search(text):
        raise ConfigError(f"{wrong} has letters in {{ }}, which stand for errors allowed: write \\{{ for a brace")
    if _copies(text) > MAX_COPIES:
        raise ConfigError(f"{wrong} repeats too much: use smaller numbers in {{ }}, or * instead of +")


def _copies(text: str) -> int:
    """At most how many nodes the pattern is compiled to.

    {n} makes n copies of what it repeats; + and {n,m} one more than they must. Repeated groups may stand in one
    another, so that theirs are multiplied. An escaped character or a class that looks like a repetition counts too.
    """
    groups, others = 1, len(text)
    for closing, least, comma, most, plus in _REPEATED.findall(text):
        times = 2 if plus else int(least or 0) + (bool(comma) and least != most)
        if closing:
            groups *= max(1, times)
        else:
            others += times
    return groups * others
