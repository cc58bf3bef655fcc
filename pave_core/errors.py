"""The exceptions of the core, and how their messages quote a value. Catch PaveError for all of them."""

from __future__ import annotations

import reprlib
from typing import Any

MAX_MESSAGE = 500
"""The most characters of a message: it goes into the log, the page and the host's history."""
NOT_FINITE = (
    "the usual culprits are fp16 (load model and VAE as bf16 or fp32), --fast, Sage attention and patches on the "
    "model; take them out one by one"
)
"""The end of a message about values of a model or its VAE that are not finite."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


def quoted(value: Any) -> str:
    """`value` for a message: its repr, which escapes what no log can write, without the middle of a long one."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"


def shortened(text: str, limit: int) -> str:
    """`text`, without the middle of one that is longer than `limit` characters: its end says what to do."""
    if len(text) <= limit:
        return text
    kept = limit - len(" ... ")
    return f"{text[: kept - kept // 2]} ... {text[len(text) - kept // 2 :]}"


def in_words(error: BaseException, limit: int = 200) -> str:
    """What any exception says, on one line of at most `limit` characters."""
    return shortened(f"{type(error).__name__}: {' '.join(str(error).split())}", limit)


class PaveError(Exception):
    """The root of everything that this package raises on purpose. Its message has at most MAX_MESSAGE characters."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message, MAX_MESSAGE))


class ConfigError(PaveError, ValueError):
    """An input is wrong and was found before training: the message names the field, the value and the remedy."""


class TrainingError(PaveError, RuntimeError):
    """Training cannot go on; what was learnt so far is in the last checkpoint."""
