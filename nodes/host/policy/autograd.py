"""What autograd cannot differentiate in the host's networks, and how that is changed while gradients are computed.

inference tensors   The host makes weights under torch.inference_mode(). Such a tensor has no version counter, so that
                    autograd can neither save it nor view it, and is_inference() does not tell: it becomes False once
                    Module.to() has set .data outside inference mode. Tracked puts normal tensors over the same memory
                    in their place.
x += y              The host's blocks (FLUX, Chroma, HunyuanVideo) write into tensors that autograd has saved.
                    out_of_place() makes that x = x + y. It replaces the operators of augmented assignment, not methods
                    such as add_(), which a network may call for their effect.

Both undo all that they change.
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
    """Inside, and in this thread only, `x += y` and its like make a new tensor of x's dtype if gradients are on."""
    owner = threading.get_ident()
    replaced = {name: getattr(Tensor, name) for name in _OPERATORS}

    def replacement(name: str) -> Callable[[Tensor, Any], Tensor]:
        in_place, compute = replaced[name], _OPERATORS[name]

        def assign(self: Tensor, other: Any) -> Tensor:
            if threading.get_ident() != owner or not torch.is_grad_enabled():
                return in_place(self, other)
            # An operation in place, too, computes in the wider dtype and rounds the result.
            return compute(self, other).to(self.dtype)

        return assign

    for name in _OPERATORS:
        setattr(Tensor, name, replacement(name))
    try:
        yield
    finally:
        for name, in_place in replaced.items():
            setattr(Tensor, name, in_place)


class Tracked:
    """Replaces the parameters and buffers of `model` by tensors that autograd accepts, until undo().

    Each that autograd cannot save is replaced by a normal tensor over the same memory, with the same attributes. No
    weight is copied except those named in `rewritten`: the host's hooks write other values into them between two calls
    of the network, while autograd still needs the first. Make it and undo it while the host does not touch the model:
    what the host moves or patches must be its own tensors.
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
        """Put the host's own tensors back: the same objects as before."""
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
    """A normal tensor over the memory of `tensor`, and a Parameter if `tensor` is one.

    copy: over a copy of it; so also if the class of `tensor` hides its memory.
    """
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
