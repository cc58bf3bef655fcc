"""Kernels without a gradient formula, and what is used in their place while gradients are computed.

comfy_kitchen       newer hosts' operations: those of its eager backend, which are written in torch
Sage, Flash, ...    attention functions for inference: the host's attention_pytorch. A function that MODEL brings along
                    (optimized_attention_override) is used as it is; where it has no gradient, the check before the
                    first step finds that (gradient_check.py).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import comfy.ldm.modules.attention as attention
from torch import Tensor

from .writes import replaced

_INFERENCE_ONLY = ("attention_sage", "attention3_sage", "attention_flash", "attention_comfy_kitchen_int8")
_OVERRIDE = "optimized_attention_override"


def eager_kernels() -> AbstractContextManager[None]:
    """A context: inside, operations of comfy_kitchen on tensors that require a gradient are those of its eager backend.

    Only in this thread, and if gradients are on.
    """
    kitchen, eager = _kitchen()
    return replaced(*((kitchen, name, _eager(function)) for name, function in eager.items()))


def attention_with_gradient(transformer_options: dict[str, Any]) -> dict[str, Any]:
    """transformer_options that make the host use an attention function with a gradient."""
    kernel = getattr(attention.optimized_attention, "__name__", "")
    if kernel not in _INFERENCE_ONLY or _OVERRIDE in transformer_options:
        return transformer_options

    def differentiable(_: Any, *args: Any, **kwargs: Any) -> Tensor:
        return attention.attention_pytorch(*args, **kwargs)

    return transformer_options | {_OVERRIDE: differentiable}


def _eager(function: Callable[..., Any]) -> Callable[[Any], Callable[..., Any]]:
    def make(theirs: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            return (function if any(t.requires_grad for t in tensors) else theirs)(*args, **kwargs)

        return call

    return make


@cache
def _kitchen() -> tuple[Any, dict[str, Callable[..., Any]]]:
    """The module comfy_kitchen, and by name those of its operations on activations that it also has in torch.

    Operations in place (their names end in _) are left: autograd itself refuses them. (None, {}): there is no such
    module.
    """
    try:
        kitchen = importlib.import_module("comfy_kitchen")
        eager = importlib.import_module("comfy_kitchen.backends.eager")
    except ImportError:
        return None, {}
    names = ("apply_rope", "rms_rope", "adaln", "rms_adaln", "na2d", "na3d")
    found = {
        name: getattr(eager, name)
        for name in dir(kitchen)
        if name.startswith(names) and not name.endswith("_") and hasattr(eager, name)
    }
    return kitchen, found
