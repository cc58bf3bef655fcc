"""What autograd cannot follow in the host's networks, and what is done about it while gradients are taken. Nothing of it is left behind.

inference tensors   The host makes weights under torch.inference_mode(). Such a tensor has no version counter, so that autograd can neither save it
                    nor view it, and is_inference() does not tell: it becomes False once Module.to() has set .data outside inference mode. Tracked
                    puts normal tensors over the same memory in their place.
x += y              The host's blocks (FLUX, Chroma, HunyuanVideo) write into tensors that autograd has saved. out_of_place() makes x = x + y of it.
                    It replaces the operators of augmented assignment, not the methods add_() and kin, which a network may call for their effect.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "__iadd__": operator.add,
    "__isub__": operator.sub,
    "__imul__": operator.mul,
    "__itruediv__": operator.truediv,
    "__ipow__": operator.pow,
}


@contextmanager
def out_of_place() -> Iterator[None]:
    """Inside, `x += y` and kin make a new tensor of x's dtype where gradients are taken, in this thread only."""
    owner = threading.get_ident()
    replaced = {name: getattr(Tensor, name) for name in _OPERATORS}

    def replacement(name: str) -> Callable[[Tensor, Any], Tensor]:
        in_place, compute = replaced[name], _OPERATORS[name]

        def assign(self: Tensor, other: Any) -> Tensor:
            if threading.get_ident() != owner or not torch.is_grad_enabled():
                return in_place(self, other)
            return compute(self, other).to(
                self.dtype
            )  # an operation in place computes in the wider dtype and rounds as well

        return assign

    for name in _OPERATORS:
        setattr(Tensor, name, replacement(name))
    try:
        yield
    finally:
        for name, in_place in replaced.items():
            setattr(Tensor, name, in_place)


class Tracked:
    """The parameters and buffers of `model` as autograd takes them, until undo().

    Each that autograd cannot save is replaced by a normal tensor over the same memory, with the same attributes; no weight is copied, but for those
    named in `rewritten`: the host writes other values into them between two calls of the network (hooks), while autograd still needs the first.
    Attach and undo while the host does not touch the model: what it moves or patches must be its own tensors.
    """

    def __init__(self, model: nn.Module, rewritten: Collection[str] = ()) -> None:
        self._replaced: list[tuple[dict[str, Any], str, Tensor, Tensor]] = []
        for path, module in model.named_modules():
            registries: list[dict[str, Any]] = [module._parameters, module._buffers]
            for registry in registries:
                for name, tensor in registry.items():
                    key = f"{path}.{name}" if path else name
                    if tensor is not None and (key in rewritten or not _is_tracked(tensor)):
                        ours = _normal(tensor, copy=key in rewritten)
                        registry[name] = ours
                        self._replaced.append((registry, name, tensor, ours))

    def undo(self) -> None:
        """Put the host's own tensors back, the same objects."""
        for registry, name, theirs, ours in self._replaced:
            if registry[name] is ours:
                registry[name] = theirs
        self._replaced.clear()


def _is_tracked(tensor: Tensor) -> bool:
    """Whether autograd can save `tensor` for backward."""
    if tensor.is_inference():
        return False
    try:
        tensor._version  # noqa: B018 - the only way to ask for the counter
    except RuntimeError:
        return False
    return True


def _normal(tensor: Tensor, copy: bool) -> Tensor:
    """A normal tensor over the memory of `tensor`, a Parameter if it is one; of a copy where that is asked for, or its class hides its memory."""
    if copy or type(tensor) not in (Tensor, nn.Parameter):
        plain = tensor.data.clone()
    else:
        plain = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        plain.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if not isinstance(tensor, nn.Parameter):
        return plain
    ours = nn.Parameter(plain, requires_grad=False)
    vars(ours).update(vars(tensor))
    return ours
