"""Which layers of a network get an adapter, found by its structure.

attention   A module with a query among its own linear layers (to_q, qkv_x, w1q) attends. All linear layers of it,
            and of what is around it and calls itself attention, are attention layers.
block       The repeated unit: an element of a list of modules in which something attends.
MLP         A part of a block in which nothing attends, and which leads through a hidden width back to its own:
            neither an embedding (outside the blocks) nor a modulation (which widens) nor a single projection.
fused       The two matrices of a single-stream block of FLUX and its kin. Each is attention and MLP at once:
            linear1 is query, key, value and the MLP's first matrix, linear2 the output of both. diffusers has the MLP's
            matrix apart (proj_mlp); its proj_out is linear2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError, quoted

_QUERY = re.compile(r"(^|_)w?\d*(q|qkv|query)(_|$)", re.IGNORECASE)
_ATTENTION = re.compile("attn|attention", re.IGNORECASE)
_FUSED = ("linear1", "linear2")
_APART = {
    "proj_mlp": "MLP of a single-stream block",
    "proj_out": "linear2",
}  # their kinds in diffusers' single-stream block
_SHOWN = 6  # layers that a message names

_WANTED: dict[str, dict[str, Sequence[str]]] = {
    "attention": {"attention": ("attention", *_FUSED)},
    "attention + MLP": {"attention": ("attention", *_FUSED), "MLP": ("MLP", _APART["proj_mlp"], *_FUSED)},
    "paper": {"attention": ("attention", "linear1"), "MLP": ("MLP", "linear1")},
}
"""{targets: {what it promises: the kinds of layers that are it}}"""


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: nn.Linear, or a host's quantised Linear, which is not derived from it."""
    return isinstance(module, nn.Linear) or (type(module).__name__ == "Linear" and hasattr(module, "in_features"))


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """All linear layers by name."""
    return {name: module for name, module in model.named_modules() if is_linear(module)}


def ranks_of(layers: Mapping[str, nn.Module], rank: int) -> dict[str, int]:
    """{name: rank of its adapter}: `rank`, or the layer's smaller side, which is all that it can hold.

    ConfigError if `rank` is above the smaller side of all of them.
    """
    sides = {name: _smaller_side(layer) for name, layer in layers.items()}
    widest = max(sides, key=lambda name: sides[name])
    if rank > sides[widest]:
        layer: Any = layers[widest]
        raise ConfigError(
            f"rank: {rank} is above the smaller side of every layer; the widest is {widest}, from {layer.in_features} "
            f"to {layer.out_features}: a LoRA of it holds all with rank {sides[widest]}; lower rank"
        )
    return {name: min(rank, side) for name, side in sides.items()}


def find_targets(model: nn.Module, targets: str) -> list[str]:
    """The names of the layers of `model` that LoraConfig.targets means, in the order of the model.

    "attention"; "attention + MLP"; "paper", the layers of the authors' LoRA: attention + MLP without linear2; or "all
    linear". ConfigError if there is no such layer, or none of one of the kinds that `targets` names.
    """
    layers = linear_layers(model)
    if targets == "all linear":
        if not layers:
            raise ConfigError("targets: this model has no linear layer: connect a transformer model")
        return list(layers)
    kinds = dict(_kinds(model))
    wanted = _WANTED[targets]
    for what, these in wanted.items():
        if not any(kind in these for kind in kinds.values()):
            others = [name for name in layers if name not in kinds]
            shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            raise ConfigError(
                f"targets: {quoted(targets)} finds no {what} in this model (linear layers that are neither attention "
                "nor "
                f"MLP: {shown or 'none'}): choose all linear"
            )
    chosen = {kind for these in wanted.values() for kind in these}
    return [name for name in layers if kinds.get(name) in chosen]


def _kinds(model: nn.Module) -> Iterator[tuple[str, str]]:
    """(layer, its kind) of the layers in the blocks of `model`. A model without blocks is one."""
    elements = {
        f"{path}.{index}": element
        for path, each in model.named_modules()
        if isinstance(each, nn.ModuleList | nn.Sequential)
        for index, element in each.named_children()
    }
    blocks = {path: each for path, each in elements.items() if any(map(_attends, [*each.modules()][1:]))}
    if not blocks and any(map(_attends, model.modules())):
        blocks = {"": model}
    for path, block in blocks.items():
        yield from _kinds_in(block, path)
    for path, each in elements.items():
        if _is_fused(each):
            yield from ((f"{path}.{name}", name) for name in _FUSED)
        if path in blocks and all(is_linear(getattr(each, name, each)) for name in _APART):
            yield from ((f"{path}.{name}", kind) for name, kind in _APART.items())


def _kinds_in(part: nn.Module, path: str) -> Iterator[tuple[str, str]]:
    """(layer, "attention" or "MLP") of the layers in a part of a block in which something attends."""
    for name, child in part.named_children():
        place = f"{path}.{name}" if path else name
        inside = [f"{place}.{layer}" for layer in linear_layers(child)]
        if any(map(_attends, child.modules())):
            if _attends(child) or _ATTENTION.search(f"{name} {type(child).__name__}"):
                yield from ((layer, "attention") for layer in inside)
            else:
                yield from _kinds_in(child, place)
        elif _is_mlp([*linear_layers(child).values()]):
            yield from ((layer, "MLP") for layer in inside)


def _smaller_side(layer: Any) -> int:
    return min(layer.in_features, layer.out_features)


def _attends(module: nn.Module) -> bool:
    return any(_QUERY.search(name) and is_linear(child) for name, child in module.named_children())


def _is_mlp(layers: Sequence[Any]) -> bool:
    """Whether two of the layers lead from a width to a hidden one and back; a gate doubles the hidden one."""
    return any(
        second.out_features == first.in_features and first.out_features in (second.in_features, 2 * second.in_features)
        for first in layers
        for second in layers
        if first is not second
    )


def _is_fused(element: nn.Module) -> bool:
    """Whether an element of a list is a single-stream block, and not an MLP whose layers are called the same."""
    own = dict(element.named_children())
    layers = [own[name] for name in _FUSED if name in own and is_linear(own[name])]
    return len(layers) == len(_FUSED) and not _is_mlp(layers)
