"""MODEL with a trained LoRA: what the training nodes give, and what was measured.

Where the weights are plain, the LoRA is applied as the host's loader applies it. A weight of 8 bits or less would round
the sum of itself and the LoRA, so that 5 to 12 % of the effect is lost: there the LoRA is added to the layer's output,
as while training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection
from torch import Tensor
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from .policy.autograd.tensors import is_plain

_INJECTION = "pave_lora_result"


def with_lora(model: ModelPatcher, lora: Mapping[str, Tensor]) -> ModelPatcher:
    """A clone of `model` with `lora`, as LoraAdapter.export() gives it."""
    layers = [key.removesuffix(".alpha") for key in lora if key.endswith(".alpha")]
    quantised = {key for key in layers if _is_quantised(model.get_model_object(f"{key}.weight"))}
    patches = {key: value for key, value in lora.items() if not key.startswith(tuple(f"{q}." for q in quantised))}
    result, _ = comfy.sd.load_lora_for_models(model, None, patches, 1.0, 0.0)
    assert result is not None  # it is None only where no model is given
    if quantised:
        added = [_Added.of(lora, key) for key in layers if key in quantised]
        earlier = result.injections.get(_INJECTION, [])
        result.set_injections(_INJECTION, [*earlier, *(PatcherInjection(each.inject, each.eject) for each in added)])
    return result


class _Added:
    """A LoRA that is added to the output of one layer, as a forward hook: in any number and order."""

    def __init__(self, layer: str, A: Tensor, B: Tensor) -> None:
        self._layer, self._A, self._B = layer, A, B
        self._hook: RemovableHandle | None = None

    @classmethod
    def of(cls, lora: Mapping[str, Tensor], key: str) -> _Added:
        """The LoRA of layer `key`: A (rank, in) and B (out, rank), scaled by alpha / rank."""
        A, B, alpha = (lora[f"{key}.{name}"] for name in ("lora_A.weight", "lora_B.weight", "alpha"))
        return cls(key, A, B * (alpha.item() / len(A)))

    def inject(self, patcher: ModelPatcher) -> None:
        """Put it on; the host calls this when the model is on its device."""
        with torch.inference_mode(False):  # the model may be trained on
            A, B = (matrix.to(patcher.load_device, copy=True) for matrix in (self._A, self._B))

        def add(_: Any, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            return y + functional.linear(functional.linear(inputs[0].to(y.dtype), A.to(y.dtype)), B.to(y.dtype))

        self._hook = patcher.model.get_submodule(self._layer).register_forward_hook(add)

    def eject(self, _: ModelPatcher) -> None:
        """Take it off."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _is_quantised(weight: Any) -> bool:
    return not is_plain(weight) or weight.element_size() == 1
