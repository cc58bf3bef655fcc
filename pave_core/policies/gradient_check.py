"""One gradient, looked at before the first step of a run: what no error would tell.

A network may lose the gradient of layers that its output depends on (an attention kernel for inference), give another
output each time (a cache that skips calls), or get another gradient from blocks that are computed again than from those
that are kept. Layers that change nothing, such as the text part of a last block, would only be dead weight.

The check costs two calls of the network, each with a backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from ..errors import NOT_FINITE, ConfigError
from ..types import GradientCheck
from .adapter import layer_of

MAX_DIFFERENCE = 0.05
"""The largest relative difference of two gradients, or outputs, that count as the same: above the rounding of bf16."""
PROBE = 1.0
"""The standard deviation of B in layers that get no gradient: if the output depends on them, it changes a lot."""


def check_gradient(
    output: Callable[[], Tensor],
    parameters: Mapping[str, nn.Parameter],
    *,
    scale: float,
    kept: Callable[[], AbstractContextManager[object]],
) -> GradientCheck:
    """Look at one gradient of a fresh adapter.

    output: computes a velocity (1, *S) with gradient. parameters: as in Policy, with B at 0. scale: of the loss, as in
    Policy. kept: a context in which some of what is computed again otherwise is kept. Everything is as before
    afterwards. ConfigError, with the layers and the reason, for a gradient that cannot be trusted.
    """
    try:
        first, gradients = _gradient(output, parameters, scale)
        while scale > 1 and not _all_finite(gradients):
            scale /= 2**4
            first, gradients = _gradient(output, parameters, scale)
        B = {layer_of(name): name for name in parameters if name.endswith(".lora_B.weight")}
        idle = [layer for layer, name in B.items() if (g := gradients[name]) is None or not bool(g.any())]
        with kept(), _set([parameters[B[layer]] for layer in idle]):
            second, again = _gradient(output, parameters, scale)
    finally:
        for p in parameters.values():
            p.grad = None
    if not bool(first.isfinite().all()) or not _all_finite(gradients):
        wrong = [layer_of(name) for name, g in gradients.items() if g is not None and not bool(g.isfinite().all())]
        what = f"the gradient of {_named(wrong)} is" if bool(first.isfinite().all()) else "its output is"
        raise ConfigError(f"model: {what} not finite: {NOT_FINITE}")
    change = _difference(first, second)
    if change > MAX_DIFFERENCE and idle:
        raise ConfigError(
            f"model: {_named(idle)} get no gradient, although the image depends on them: the model computes with a "
            "kernel for inference only (Sage or Flash attention, or a patch on MODEL that computes without gradients): "
            "start ComfyUI without it, or remove the patch"
        )
    if change > MAX_DIFFERENCE:
        raise ConfigError(
            f"model: two calls of the network with the same input differ by {change:.0%}: a patch on MODEL that keeps "
            "something from call to call (a cache that skips steps, such as TeaCache or EasyCache): remove it"
        )
    wrong = [
        layer_of(name)
        for name, g in gradients.items()
        if (g is None) != (again[name] is None) or (g is not None and _difference(g, again[name]) > MAX_DIFFERENCE)
    ]
    if wrong:
        raise ConfigError(
            f"checkpointing: the gradient of {_named(wrong)} is not the same with it as without: set checkpointing to "
            "off, and report the model"
        )
    left_out = f"; {_named(idle)} change nothing, and get no LoRA" if idle else ""
    text = f"gradient check: {len(B) - len(idle)} of {len(B)} layers get a gradient{left_out}"
    return GradientCheck(tuple(idle), text)


def _gradient(
    output: Callable[[], Tensor], parameters: Mapping[str, nn.Parameter], scale: float
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The output, and the gradients of scale times a mean of it with random weights."""
    for p in parameters.values():
        p.grad = None
    with torch.enable_grad():
        y = output()
        if not y.requires_grad:
            raise ConfigError(
                "model: no gradient reaches the LoRA: a patch or wrapper on MODEL computes without gradients, or its "
                "layers are of a kind that cannot be trained (Nunchaku): connect the model as its loader gives it"
            )
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
        (scale * (weights * y).mean()).backward()
    return y.detach(), {name: p.grad for name, p in parameters.items()}


@contextmanager
def _set(matrices: Sequence[Tensor]) -> Iterator[None]:
    """Inside, matrices that are 0 hold noise."""
    try:
        with torch.no_grad():
            for B in matrices:
                B.copy_(PROBE * torch.randn(B.shape, generator=torch.Generator().manual_seed(0)))
        yield
    finally:
        with torch.no_grad():
            for B in matrices:
                B.zero_()


def _all_finite(gradients: Mapping[str, Tensor | None]) -> bool:
    return all(bool(g.isfinite().all()) for g in gradients.values() if g is not None)


def _difference(a: Tensor, b: Tensor | None) -> float:
    """|a - b| / |a|; infinite if b is not finite, 0 if both are 0."""
    if b is None or not bool(b.isfinite().all()):
        return math.inf
    gap = (a.float() - b.float()).norm().item()
    return gap / max(a.float().norm().item(), 1e-30) if gap else 0.0


def _named(layers: Sequence[str], shown: int = 3) -> str:
    """ "2 layers (a, b)", without repetition."""
    names = list(dict.fromkeys(layers))
    dots = ", ..." if len(names) > shown else ""
    return f"{len(names)} {'layer' if len(names) == 1 else 'layers'} ({', '.join(names[:shown])}{dots})"
