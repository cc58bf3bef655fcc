"""A host's network as one that autograd can follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from .blocks import blocks_of
from .kernels import eager_kernels
from .layers import casts_its_weights, frozen_linear, is_to_be_frozen
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
        self._blocks: dict[str, Recomputed] = {}  # those that are computed again
        self._tracked = Tracked(model, rewritten)
        copied = {name.rpartition(".")[0] for name in rewritten}  # autograd keeps their values, as they change
        for path, layer in model.named_modules():
            if path in copied:
                continue
            others = "forward" in vars(layer)  # a pack, or the host's bypass LoRA, has put another one on
            if is_to_be_frozen(layer) and not others:
                self._forwards.replace(layer, frozen_linear(layer, layer.forward))
            elif casts_its_weights(layer):
                self._forwards.replace(layer, Recomputed(layer.forward, mode=taking_gradients))

    def checkpoint_blocks(self) -> None:
        """Compute the blocks again for their gradient. Call it when the adapter is attached."""
        for name, block in blocks_of(self._model).items():
            own = tuple(p for p in block.parameters() if p.requires_grad)
            self._blocks[name] = Recomputed(block.forward, own, taking_gradients)
            self._forwards.replace(block, self._blocks[name])

    def lists(self) -> list[list[Recomputed]]:
        """The blocks that are computed again, by the list of the network that they are in."""
        found: dict[str, list[Recomputed]] = {}
        for name, block in self._blocks.items():
            found.setdefault(name.rpartition(".")[0], []).append(block)
        return list(found.values())

    @contextmanager
    def keeping_some_blocks(self) -> Iterator[None]:
        """Inside, the first block of each list is kept; not if it writes over what autograd keeps."""
        first = [blocks[0] for blocks in self.lists()]
        for block in first:
            block.kept = not block.overwrites
        try:
            yield
        finally:
            for block in first:
                block.kept = False

    def undo(self) -> None:
        """Leave the model as it was."""
        self._forwards.undo()
        self._tracked.undo()


class _Forwards:
    """Replaces the forward of single modules, until undo()."""

    def __init__(self) -> None:
        self._replaced: list[tuple[nn.Module, Any, Any]] = []

    def replace(self, module: nn.Module, ours: Callable[..., Any]) -> None:
        """Let `ours` be the forward of `module`."""
        self._replaced.append((module, vars(module).get("forward"), ours))
        module.forward = ours

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
