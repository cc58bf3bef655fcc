"""Micro-batches that become smaller when memory runs out.

A part that does not fit is halved and computed again, down to one item; the size that fitted is kept for the rest of
the run. The results do not depend on the size.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from torch import Tensor

from .errors import PaveError, TrainingError

logger = logging.getLogger("pave")

SAID = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What the messages of other errors say where memory ran out: those of MPS, of the CPU, of cuBLAS and cuDNN."""
SMALLER = "lower width and height, raise offload in Pave Memory, or load the model's weights as fp8 (weight_dtype)"
UNLIMITED = sys.maxsize


def nothing() -> None:
    """Free no caches."""


class Batches:
    """How many items of one kind of work are computed at once.

    size: at first; at least 1. what: the items, as the log calls them: "images in a network call". remedy: what to do
    where even one does not fit. free: frees the caches of the device before a part is computed again.
    """

    def __init__(
        self, size: int, *, what: str = "items", remedy: str = SMALLER, free: Callable[[], None] = nothing
    ) -> None:
        self.size = size
        self._what, self._remedy, self._free = what, remedy, free

    def map(self, compute: Callable[..., Tensor], *items: Tensor | Sequence[Any]) -> Tensor:
        """compute(*parts) of micro-batches of `items`, joined.

        items: of one length N >= 1, which are cut at the same places into as few parts as there can be, of about one
        length; compute: n of each -> (n, ...). Returns (N, ...). TrainingError with the remedy where one item does not
        fit.
        """
        results: list[Tensor] = []
        start, whole = 0, len(items[0])
        while start < whole:
            left = whole - start
            length = ceil(left / ceil(left / self.size))
            parts = [each[start : start + length] for each in items]
            result = self._attempt(compute, parts)
            if result is not None:
                results.append(result)
                start += len(parts[0])
        return torch.cat(results)

    def _attempt(self, compute: Callable[..., Tensor], parts: Sequence[Any]) -> Tensor | None:
        """compute(*parts), or None where memory ran out: the size is smaller then."""
        count = len(parts[0])
        try:
            with explained(f"one of the {self._what}", self._remedy, when=count == 1):
                return compute(*parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Not in the handler: the exception holds what the failed call had on the device.
        self.size = count // 2
        self._free()
        logger.warning(f"Pave-GRPO: memory ran out with {count} {self._what}: {self.size} at a time from here on")
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, and has not been given a remedy yet (see explained)."""
    if isinstance(error, PaveError):
        return False
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in SAID)


@contextmanager
def explained(what: str, remedy: str, *, when: bool = True) -> Iterator[None]:
    """TrainingError that says what did not fit, and the remedy, where memory runs out inside. when: if False, not."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not when or not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"memory ran out in {what}: {remedy} ({reason})") from error
