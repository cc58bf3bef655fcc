"""Layers whose weights are not there when autograd needs them: frozen functions that ask the layer again.

The host casts, dequantises, patches or copies weights to the device at each call. Autograd would keep each of these
copies for backward (16 of 21.6 GiB per evaluation of FLUX in fp8), or find that the host has used its memory again.

A linear layer y = x W^T + b is computed by the host's own forward without gradient, to the bit; its backward is
dL/dx = dL/dy W, with W asked of the layer again. Other layers (norms, convolutions) are computed again as a whole.
Layers whose weights stay as they are, are left to autograd, which keeps no copy of them and is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn

from .....pave_core.policies.targets import is_linear
from .tensors import is_plain


def is_to_be_frozen(layer: Any) -> bool:
    """Whether `layer` is a linear layer whose weight autograd cannot keep as it is, and weight_of() can give."""
    known = _is_of_the_host(layer) or type(layer) is nn.Linear
    if not (known and is_linear(layer) and isinstance(layer.weight, Tensor)):
        return False
    return casts_its_weights(layer) or not is_plain(layer.weight)


def casts_its_weights(layer: Any) -> bool:
    """Whether the host makes the weights of `layer` anew at each call."""
    return _is_of_the_host(layer) and bool(
        layer.comfy_cast_weights or layer.weight_function or layer.bias_function or hasattr(layer, "_v")
    )


def frozen_linear(layer: Any, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The forward of a linear layer with a gradient in its input alone, and nothing saved."""
    # The host's product in 8 bits limits its input to the range of e4m3 in place.
    writes, plain = layer.weight.element_size() == 1, is_plain(layer.weight)

    def call(x: Tensor) -> Tensor:
        if plain and not torch.is_grad_enabled():
            return forward(x)
        if torch.is_grad_enabled() and x.requires_grad:
            return _FrozenLinear.apply(x.clone() if writes else x, layer, forward)  # pyright: ignore[reportReturnType]
        with torch.no_grad():
            return _normal(layer, lambda: forward(x))

    return call


class _FrozenLinear(torch.autograd.Function):
    """apply(x (..., in), layer, its forward) -> (..., out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, forward: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return _normal(layer, lambda: forward(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        def product() -> Tensor:
            with weight_of(ctx.layer, gradient) as weight:
                return (gradient @ weight).to(ctx.dtype)

        return _normal(ctx.layer, product), None, None


@contextmanager
def weight_of(layer: Any, like: Tensor) -> Iterator[Tensor]:
    """The weight (out, in) that a linear layer multiplies with at the moment, in dtype and on device of `like`."""
    if hasattr(layer, "cast_bias_weight"):  # GGUF
        weight, release = layer.cast_bias_weight(like)[0], lambda: None
    elif _is_of_the_host(layer):
        cast: Any = comfy.ops.cast_bias_weight(layer, like, offloadable=True)
        weight, release = cast[0], lambda: comfy.ops.uncast_bias_weight(layer, *cast)
    else:
        weight, release = layer.weight.to(like), lambda: None
    try:
        if not is_plain(weight):
            weight = weight.dequantize()
        for name in ("scale_weight", "pre_quant_scale"):  # of the host's quantised layers
            if getattr(layer, name, None) is not None:
                weight = weight * getattr(layer, name).to(weight)
        yield weight
    finally:
        release()


def _normal(layer: Any, compute: Callable[[], Tensor]) -> Tensor:
    """compute() as a normal tensor, also if the weights of `layer` are inference tensors of a class of their own."""
    if is_plain(layer.weight):
        return compute()
    with torch.inference_mode():
        computed = compute()
    return computed.clone()


def _is_of_the_host(layer: Any) -> bool:
    """Whether `layer` is one of the host's, or of a pack that follows its ways."""
    return hasattr(layer, "comfy_cast_weights")
