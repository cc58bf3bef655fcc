"""The repeated blocks of a network."""

from __future__ import annotations

from torch import nn

from .....pave_core.policies.targets import is_linear, linear_layers


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """{name: block} of the elements of the network's outermost lists of blocks, in their order.

    Lists within a block (experts, heads) are part of it; a list of linear layers is none of blocks.
    """
    found: dict[str, nn.Module] = {}

    def look_into(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            here = f"{path}.{name}" if path else name
            if isinstance(module, nn.ModuleList) and not is_linear(child) and linear_layers(child):
                found[here] = child
            else:
                look_into(child, here)

    look_into(model, "")
    return found
