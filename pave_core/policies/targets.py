"""Which layers of a model get an adapter."""

from __future__ import annotations

from torch import nn

from ..errors import ConfigError

_ATTENTION = ("attn", "attention", "attn1", "attn2", "self_attn", "cross_attn")

_MLP = ("mlp", "ffn", "ff", "feed_forward", "net")

_FUSED = ("linear1", "linear2")  # single-stream blocks of FLUX and Chroma: attention and MLP in one matrix


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """All linear layers by name: nn.Linear, and a host's quantised Linear, which is not derived from it."""

    def is_linear(module: nn.Module) -> bool:
        return isinstance(module, nn.Linear) or (type(module).__name__ == "Linear" and hasattr(module, "in_features"))

    return {name: module for name, module in model.named_modules() if is_linear(module)}


def find_targets(model: nn.Module, targets: str) -> list[str]:
    """The names of the layers that `targets` ("attention", "attention + MLP" or "all linear") means in `model`.

    ConfigError if there are none.
    """
    names = list(linear_layers(model))
    if targets == "all linear":
        chosen = names
    else:
        kinds = _ATTENTION + _FUSED if targets == "attention" else _ATTENTION + _FUSED + _MLP

        def wanted(name: str) -> bool:
            return any(
                part in kinds or (part.endswith(("_attn", "_mlp")) and part.split("_")[-1] in kinds)
                for part in name.split(".")
            )

        chosen = [name for name in names if wanted(name) and "modulation" not in name and "embed" not in name]
    if not chosen:
        shown = ", ".join(names[:6]) or "none"
        raise ConfigError(
            f"targets: {targets!r} matches no layer of this model (its linear layers: {shown}, ...): choose all linear"
        )
    return chosen
