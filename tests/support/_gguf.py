"""Weights as the GGUF pack keeps them: bytes that are dequantised at each call, in tensors that hide what they are.

A stand-in with its traits: clone() and detach() give the tensor itself, the shape is not that of the memory, and
state_dict() is of meta tensors. The only format here is Q8_0: blocks of 32 values, an fp16 scale and 32 int8 each.
"""

from typing import Any

import comfy.ops
import comfy.sd
import torch
from torch import Tensor

BLOCK = 32


class GGMLTensor(Tensor):
    """The bytes of a weight. shape is the weight's; size() that of the memory."""

    tensor_shape: torch.Size

    def to(self, *args: Any, **options: Any) -> Any:
        new: Any = super().to(*args, **options)
        new.tensor_shape = self.tensor_shape
        return new

    def clone(self, *args: Any, **options: Any) -> Any:
        return self

    def detach(self, *args: Any, **options: Any) -> Any:
        return self

    @property
    def shape(self) -> torch.Size:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self, "tensor_shape", self.size())


def quantised(weight: Tensor) -> GGMLTensor:
    """Q8_0 of a matrix whose rows are a multiple of BLOCK long."""
    blocks = weight.float().reshape(-1, BLOCK)
    scale = (blocks.abs().amax(1, keepdim=True) / 127).half()
    numbers = (blocks / scale.float().clamp(min=1e-8)).round().clamp(-127, 127).to(torch.int8)
    stored: Any = torch.cat([scale.view(torch.uint8), numbers.view(torch.uint8)], 1).view(len(weight), -1)
    stored = stored.as_subclass(GGMLTensor)
    stored.tensor_shape = weight.shape
    return stored


def dequantised(weight: GGMLTensor, dtype: torch.dtype) -> Tensor:
    """The values of quantised()."""
    with torch._C.DisableTorchFunctionSubclass():
        blocks = Tensor.view(weight, -1, 2 + BLOCK)
        scale, numbers = blocks[:, :2].contiguous(), blocks[:, 2:].contiguous()
        return (scale.view(torch.half).to(dtype) * numbers.view(torch.int8).to(dtype)).view(weight.tensor_shape)


class Operations(comfy.ops.manual_cast):
    """The host's layers, with linear ones that hold quantised weights."""

    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(
            self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
        ) -> None:
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight: Any = None
            self.bias: Any = None

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in state_dict:
                    setattr(self, name, torch.nn.Parameter(state_dict[f"{prefix}{name}"], requires_grad=False))

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            destination[f"{prefix}weight"] = torch.zeros(self.weight.size(), device="meta")

        def cast_bias_weight(self, input: Tensor) -> tuple[Tensor, Tensor | None]:
            bias = None if self.bias is None else self.bias.to(input)
            if not isinstance(self.weight, GGMLTensor):
                return self.weight.to(input), bias
            return dequantised(self.weight.to(input.device), input.dtype), bias

        def forward_comfy_cast_weights(self, input: Tensor, *args: Any, **options: Any) -> Tensor:
            return torch.nn.functional.linear(input, *self.cast_bias_weight(input))


def load(weights: dict[str, Tensor]) -> tuple[Any, Any]:
    """(MODEL with the linear layers of its blocks quantised, MODEL with the same values as plain tensors)."""
    stored: dict[str, Tensor] = {
        name: quantised(value) if ".weight" in name and "block" in name and value.ndim == 2 else value
        for name, value in weights.items()
    }
    plain = {
        name: dequantised(value, torch.float32) if isinstance(value, GGMLTensor) else value
        for name, value in stored.items()
    }
    options = {"custom_operations": Operations}
    with torch.inference_mode():
        loaded = comfy.sd.load_diffusion_model_state_dict(stored, model_options=options)
        return loaded, comfy.sd.load_diffusion_model_state_dict(plain)
