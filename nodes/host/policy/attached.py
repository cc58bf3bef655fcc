"""What other nodes have hung on MODEL: what keeps it from being trained, and what training does without."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ....pave_core.errors import ConfigError
from .fit import name_of

_FEW_STEPS = re.compile(r"turbo|schnell|lightning|lcm|hyper|(?<!cfg.)distill|klein(?!.*base)", re.IGNORECASE)
_SKIPPING = re.compile(
    r"(tea|easy|lazy|mag|fb|first_?block|taylor|dual_?block|wave_?speed|db|ada|deep|faster|smooth)_?cache|cache_?dit|"
    r"taylor_?seer|pyramid_?attention_?broadcast",
    re.IGNORECASE,
)
"""The caches that skip calls of the network, by what the host and packs call them."""
_COMPILED = "torch.compile"  # the key of the host's wrapper; comfy_api.torch_helpers


def require_every_call(model: ModelPatcher) -> None:
    """ConfigError if a node on MODEL skips calls of the network, whose velocity then depends on earlier calls."""
    skipping = next((name for name in _names(model) if _SKIPPING.search(name)), None)
    if skipping is not None:
        raise ConfigError(
            f"model: a node has put {skipping!r} on it, which skips calls of the network: images would be sampled with "
            "one function and the loss computed with another; connect the MODEL from before that node, and keep the "
            "node for generating"
        )


def may_skip_calls(model: ModelPatcher) -> str | None:
    """A warning if something on MODEL is called a cache and is not known to skip calls of the network."""
    caching = next((name for name in _names(model) if "cache" in name.lower()), None)
    if caching is None:
        return None
    return (
        f"model: a node has put {caching!r} on it. If it skips calls of the network, train without it: images would be "
        "sampled with one function and the loss computed with another"
    )


def require_gradient(model: ModelPatcher) -> None:
    """ConfigError if MODEL's network is known to have no gradient, or layers of other names than the host's."""
    # What patches have put there, of this MODEL or of another of the same network, goes when the host loads this one.
    patched = {id(comfy.utils.get_attr(model.model, name)) for name in model.object_patches_backup}
    for path, module in model.model.diffusion_model.named_modules():
        where = f"{path or 'the network'} ({type(module).__name__})"
        if type(module).__name__ == "SVDQW4A4Linear" or "nunchaku" in type(module).__module__.lower():
            raise ConfigError(
                f"model: {where} is Nunchaku's, whose 4-bit kernels have no gradient: load the same model as fp8 "
                "(UNETLoader, weight_dtype fp8_e4m3fn) or as GGUF, which need about as little memory to train"
            )
        if hasattr(module, "_orig_mod") and id(module) not in patched:
            raise ConfigError(
                f"model: {where} was compiled in place by another node, so that a LoRA of it would fit no other model: "
                "load the model again, and train without that node"
            )


def uncompile(model: ModelPatcher) -> bool:
    """Take out of MODEL (a clone) what other nodes have compiled. Whether there was any.

    A compiled network computes the same; but its layers have other names, and a LoRA of them would fit no other model.
    """
    patched = [name for name, patch in model.object_patches.items() if hasattr(patch, "_orig_mod")]
    for name in patched:
        del model.object_patches[name]
    wrapped = bool(model.get_wrappers(WrappersMP.APPLY_MODEL, _COMPILED))
    model.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, _COMPILED)
    return wrapped or bool(patched)


def few_steps(model: ModelPatcher) -> str | None:
    """A warning if MODEL was distilled to few steps, as far as class and file name tell; newer hosts know the file."""
    made: Any = getattr(model, "cached_patcher_init", None)
    file = Path(str(made[1][0])).name if made else ""
    parameters = getattr(model.model.diffusion_model, "params", None)
    schnell = name_of(model) == "FluxSchnell" and not getattr(parameters, "yak_mlp", False)  # Ovis is of this class too
    if not schnell and not _FEW_STEPS.search(file):
        return None
    return (
        f"model: {file or name_of(model)} looks like a model distilled to few steps (turbo, schnell, lightning). "
        "Training spoils such a model's few steps: train the base model (FLUX.1-dev, Z-Image, Qwen-Image), and use the "
        "LoRA on both"
    )


def _names(model: ModelPatcher) -> Iterator[str]:
    """The names of all that acts when the network is called: keys of options, functions, classes of objects."""
    todo: list[Any] = [model.model_options, model.wrappers, model.object_patches]
    while todo:
        each = todo.pop()
        if isinstance(each, Mapping):
            yield from map(str, each)
            todo += each.values()
        elif isinstance(each, list | tuple):
            todo += each
        else:
            yield getattr(each, "__qualname__", type(each).__qualname__)
