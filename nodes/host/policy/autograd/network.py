"""A host's network as one that autograd can follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from .blocks import blocks_of
from .kernels import eager_kernels
from .layers import can_be_frozen, casts_its_weights, frozen_linear
from .recompute import Recomputed
from .tensors import Tracked
from .writes import out_of_place


@contextmanager
def taking_gradients() -> Iterator[None]:
    """A context around a call of the network: inside, and where gradients are on, autograd can follow it."""
    with out_of_place(), eager_kernels():
        yield


class DifferentiableNetwork:
    """Makes `model` one that autograd can follow in taking_gradients(), until undo().

    It is made when the host has loaded the model, and before the adapter is attached. rewritten: the names of weights
    that the host's hooks rewrite between two calls. The model's Parameters are the same objects afterwards.
    """

    def __init__(self, model: nn.Module, rewritten: Collection[str] = ()) -> None:
        self._model, self._forwards = model, _Forwards()
        self._tracked = Tracked(model, rewritten)
        for path, layer in model.named_modules():
            if {f"{path}.weight", f"{path}.bias"} & set(rewritten):
                continue
            if can_be_frozen(layer):
                self._forwards.replace(layer, partial(frozen_linear, layer))
            elif casts_its_weights(layer) and not isinstance(layer, nn.Linear):
                self._forwards.replace(layer, lambda forward: Recomputed(forward, mode=taking_gradients))

    def checkpoint_blocks(self) -> None:
        """Compute the blocks again for their gradient. Call it when the adapter is attached."""
        for block in blocks_of(self._model).values():
            own = tuple(p for p in block.parameters() if p.requires_grad)
            self._forwards.replace(block, lambda forward, own=own: Recomputed(forward, own, taking_gradients))

    def undo(self) -> None:
        """Leave the model as it was."""
        self._forwards.undo()
        self._tracked.undo()


class _Forwards:
    """Replaces the forward of single modules, until undo()."""

    def __init__(self) -> None:
        self._replaced: list[tuple[nn.Module, Any, Any]] = []

    def replace(self, module: nn.Module, make: Callable[[Any], Any]) -> None:
        """module.forward = make(module.forward)."""
        theirs, ours = vars(module).get("forward"), make(module.forward)
        module.forward = ours
        self._replaced.append((module, theirs, ours))

    def undo(self) -> None:
        """Put the modules' own back. What others have put over ours stays."""
        for module, theirs, ours in reversed(self._replaced):
            if vars(module).get("forward") is not ours:
                continue
            if theirs is None:
                del module.forward
            else:
                module.forward = theirs
        self._replaced.clear()
