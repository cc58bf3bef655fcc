"""Inference tensors.

The host makes weights under torch.inference_mode(). Such a tensor has no version counter, so that autograd can neither
save it nor view it, and is_inference() does not tell: it becomes False once Module.to() has set .data outside inference
mode. Tracked puts normal tensors over the same memory in their place.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn


class Tracked:
    """Replaces the parameters and buffers of `model` by tensors that autograd accepts, until undo().

    Each that autograd cannot save is replaced by a normal tensor over the same memory, with the same attributes. No
    weight is copied except those named in `rewritten`: the host's hooks write other values into them between two calls
    of the network, while autograd still needs the first. Tensors of other classes (GGUF, quantised) are left: layers.py
    keeps autograd from them. Make it and undo it while the host does not touch the model: what the host moves or
    patches must be its own tensors.
    """

    def __init__(self, model: nn.Module, rewritten: Collection[str] = ()) -> None:
        self._replaced: list[tuple[dict[str, Any], str, Tensor, Tensor]] = []
        for path, module in model.named_modules():
            registries: list[dict[str, Any]] = [module._parameters, module._buffers]
            for registry in registries:
                for name, tensor in registry.items():
                    key = f"{path}.{name}" if path else name
                    if tensor is not None and (key in rewritten or (is_plain(tensor) and not _is_tracked(tensor))):
                        ours = _normal(tensor, copy=key in rewritten)
                        registry[name] = ours
                        self._replaced.append((registry, name, tensor, ours))

    def undo(self) -> None:
        """Put the host's own tensors back: the same objects as before."""
        for registry, name, theirs, ours in self._replaced:
            if registry[name] is ours:
                registry[name] = theirs
        self._replaced.clear()


def is_plain(tensor: Tensor) -> bool:
    """Whether `tensor` is no more than its memory: of no class that quantises or hides it."""
    return type(tensor) in (Tensor, nn.Parameter)


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
    """A normal tensor over the memory of `tensor`, or over a copy of it; a Parameter if `tensor` is one."""
    if copy:
        plain = tensor.data.clone()
    else:
        plain = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        plain.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if not isinstance(tensor, nn.Parameter):
        return plain
    ours = nn.Parameter(plain, requires_grad=False)
    vars(ours).update(vars(tensor))
    return ours
