"""The calls of a host's network, recorded so that they can be made again without what lies around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class Kind(NamedTuple):
    """What makes two calls cost the same."""

    where: str  # the part of a training step
    shape: tuple[int, ...]  # of the latents: (B, *S)
    gradient: bool  # whether autograd records it
    chained: bool  # whether the gradient goes on into the latents, as within a chain


class NetworkCalls:
    """The calls of a network: what it was called with, once for each kind, and how often.

    where: tells the part of a training step that is under way.
    """

    def __init__(self, network: torch.nn.Module, where: Callable[[], str] = str) -> None:
        self.network, self._where = network, where
        self._counts: Counter[Kind] = Counter()
        self._first: dict[Kind, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    @contextmanager
    def recorded(self, on: bool = True) -> Iterator[None]:
        """Inside, calls are recorded, if `on`; those of an earlier time are forgotten."""
        if not on:
            yield
            return
        self._counts.clear()
        hook = self.network.register_forward_pre_hook(self._note, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _note(self, network: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        gradient = torch.is_grad_enabled()
        kind = Kind(self._where(), tuple(args[0].shape), gradient, gradient and args[0].requires_grad)
        self._counts[kind] += 1
        if kind not in self._first:
            self._first[kind] = ((args[0].detach(), *args[1:]), dict(kwargs))

    def of(self, where: str = "") -> Iterator[tuple[Kind, tuple[tuple[Any, ...], dict[str, Any]], int]]:
        """(kind, (args, kwargs), how often) of the calls of a part."""
        return ((kind, self._first[kind], count) for kind, count in self._counts.items() if kind.where == where)

    def evaluations(self, where: str = "") -> int:
        """How many latents went through the network in a part."""
        return sum(kind.shape[0] * count for kind, _, count in self.of(where))
