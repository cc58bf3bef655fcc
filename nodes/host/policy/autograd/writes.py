"""Writes into tensors that autograd has saved.

x += y          Blocks of FLUX, Chroma and HunyuanVideo do it: out_of_place() makes that x = x + y. It replaces the
                operators of augmented assignment, not methods such as add_(), which a network may call for their effect
                (Mochi does).
f(x, out=y)     The blocks of Qwen (HiDream-O1) do it, and go on with the result: out_of_place() ignores out.
x.add_(y)       Blocks that do it (LTXV, PixelDiT) can only be computed again for their gradient: recompute.py.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "__iadd__": operator.add,
    "__isub__": operator.sub,
    "__imul__": operator.mul,
    "__itruediv__": operator.truediv,
    "__ipow__": operator.pow,
}
_FUNCTIONS = ("add", "sub", "mul", "div", "addcmul", "matmul", "exp", "clamp")
"""Functions of torch whose `out` is ignored."""


@contextmanager
def replaced(*replacements: tuple[Any, str, Callable[[Any], Any]]) -> Iterator[None]:
    """Inside, in this thread and where gradients are on, attributes of classes and modules are others.

    replacements: (owner, name of the attribute, a function from its callable to the one in its place).
    """
    thread = threading.get_ident()
    before = [(owner, name, getattr(owner, name), name in vars(owner)) for owner, name, _ in replacements]

    def chosen(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            taking = torch.is_grad_enabled() and threading.get_ident() == thread
            return (ours if taking else theirs)(*args, **kwargs)

        return call

    for (owner, name, theirs, _), (_, _, make) in zip(before, replacements, strict=True):
        setattr(owner, name, chosen(theirs, make(theirs)))
    try:
        yield
    finally:
        for owner, name, theirs, its_own in before:
            if its_own:
                setattr(owner, name, theirs)
            else:
                delattr(owner, name)  # it is inherited


def out_of_place() -> AbstractContextManager[None]:
    """A context in which `x += y` and its like, and out=, make new tensors, in this thread and if gradients are on.

    That of `x += y` has x's dtype.
    """
    operators = ((Tensor, name, _assignment(compute)) for name, compute in _OPERATORS.items())
    functions = ((torch, name, _without_out) for name in _FUNCTIONS)
    return replaced(*operators, *functions)


def _assignment(compute: Callable[[Any, Any], Any]) -> Callable[[Any], Callable[..., Tensor]]:
    # An operation in place, too, computes in the wider dtype and rounds the result.
    return lambda _: lambda self, other: compute(self, other).to(self.dtype)


def _without_out(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, out=None, **kwargs: function(*args, **kwargs)
