"""Gradient checkpointing: a function that keeps only its inputs, and is computed again when its gradient is needed.

torch.utils.checkpoint cannot be used on the host's networks. Without reentrance it rebuilds the tensors that autograd
saves, and checks no versions while it does: a block that writes into one gets a wrong gradient without an error. With
it, parameters get none where no input requires one.

Here the inputs are kept as they were, and the function works on copies of them. If autograd finds that the function
overwrites what it has saved, it is computed again with what it overwrites copied first.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors

Mode = Callable[[], AbstractContextManager[Any]]


class Recomputed:
    """`function`, of which only the arguments are kept for backward.

    parameters: what else the function depends on that requires a gradient. mode: entered while it is computed again.
    Tensors are looked for in lists, tuples and dataclasses; a dictionary among the arguments must hold none that
    requires a gradient, and is as it was when the function is computed again.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Sequence[Tensor] = (), mode: Mode = nullcontext
    ) -> None:
        self.function, self.parameters, self.mode = function, parameters, mode
        self.kept = False  # whether it is kept after all, and not computed again
        self.overwrites = False  # whether it is known to write into tensors that autograd has saved

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tensors = tensors_in((args, tuple(kwargs.values())))
        if self.kept or not torch.is_grad_enabled() or not any(t.requires_grad for t in (*tensors, *self.parameters)):
            return self.function(*args, **kwargs)
        call = _Call(self, args, kwargs)
        outputs = _Function.apply(call, len(tensors), *tensors, *self.parameters)
        return with_tensors(call.outputs, outputs)  # pyright: ignore[reportArgumentType]


class _Call:
    """A call of a function, whose tensors can be exchanged."""

    def __init__(self, of: Recomputed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.of, self._names = of, tuple(kwargs)
        self._first = (args, tuple(kwargs.values()))
        self._again = _snapshot(self._first)
        self.outputs: Any = None  # of the first time, with empty tensors

    def first(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors among the function's outputs."""
        outputs = self._call(self._first, tensors)
        self._first = None
        self.outputs = _without_memory(outputs)
        return tensors_in(outputs)

    def again(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same, with the arguments as they were at first."""
        return tensors_in(self._call(_snapshot(self._again), tensors))

    def _call(self, arguments: Any, tensors: Sequence[Tensor]) -> Any:
        args, values = with_tensors(arguments, tensors)
        return self.of.function(*args, **dict(zip(self._names, values, strict=True)))


class _Function(torch.autograd.Function):
    """apply(call, number of its tensors, *its tensors, *parameters) -> the tensors among its outputs."""

    @staticmethod
    def forward(ctx: Any, call: _Call, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.call, ctx.count = call, count
        ctx.set_materialize_grads(False)  # parameters behind an output that nothing uses get no gradient, not 0
        ctx.save_for_backward(*tensors)
        outputs = tuple(call.first([tensor.clone() for tensor in tensors[:count]]))
        ctx.mark_non_differentiable(*(each for each in outputs if not each.is_floating_point()))
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        call, tensors = ctx.call, ctx.saved_tensors
        inputs = [t.detach().requires_grad_(t.requires_grad) for t in tensors[: ctx.count]]
        sources = [*inputs, *tensors[ctx.count :]]
        wanted = [t for t in sources if t.requires_grad]

        def computed() -> Sequence[Tensor | None]:
            outputs = call.again([t.clone() for t in inputs])
            given = [(y, g) for y, g in zip(outputs, gradients, strict=True) if g is not None and y.requires_grad]
            return torch.autograd.grad([y for y, _ in given], wanted, [g for _, g in given], allow_unused=True)

        with torch.enable_grad(), call.of.mode():
            found = iter(_with_what_it_overwrites(call.of, computed))
        return None, None, *(next(found) if t.requires_grad else None for t in sources)


def _with_what_it_overwrites(of: Recomputed, computed: Callable[[], Any]) -> Any:
    """computed(), with copies of what the function overwrites if autograd needs them. They cost time, so that it is
    tried without them first.
    """
    if not of.overwrites:
        try:
            return computed()
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            of.overwrites = True
    with allow_mutation_on_saved_tensors():
        return computed()


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in lists, tuples and dataclasses, in their order."""
    found: list[Tensor] = []
    _mapped(value, found.append)
    return found


def with_tensors(value: Any, tensors: Sequence[Tensor]) -> Any:
    """`value` with `tensors` in place of tensors_in(value)."""
    given = iter(tensors)
    return _mapped(value, lambda _: next(given))


def _snapshot(arguments: Any) -> Any:
    """The arguments without their tensors, which take no memory, and with copies of their dictionaries."""
    args, values = _without_memory(arguments)

    def copied(value: Any) -> Any:
        return dict(value) if isinstance(value, dict) else value

    return tuple(map(copied, args)), tuple(map(copied, values))


def _without_memory(value: Any) -> Any:
    return _mapped(value, lambda tensor: tensor.new_empty(0))


def _mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """`value` with function(tensor) in place of each tensor in it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        items = [_mapped(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        other = copy.copy(value)
        for each in dataclasses.fields(value):
            object.__setattr__(other, each.name, _mapped(getattr(value, each.name), function))
        return other
    return value
