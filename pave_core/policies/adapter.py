"""The LoRA adapter: layers put into a flow model and taken out again, and their export in the host's key format.

    y = W x + (alpha / rank) B A x          arXiv 2106.09685, eq. 3

A starts as N(0, 1 / rank^2) ("gaussian") or Kaiming-uniform ("kaiming"), B as 0: a fresh adapter changes nothing.

The adapter adds to the layer's output, so that the base weight is only read: fp8 and GGUF layers train as they are. Its
parameters are fp32, and it computes in the dtype of the layer's output, as the network around it does.
attach() and detach() swap modules in place; after detach() every layer is the model's own again, so that a host may
move, patch and unpatch the base model in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..config.adapter import LoraConfig
from .targets import find_targets, linear_layers, ranks_of


class _LoraLinear(nn.Module):
    """A linear layer and its adapter, which computes in the dtype of the layer's output.

    Not peft's: that imports whatever quantisation packages are installed, and a broken one ended every training.
    """

    def __init__(self, base_layer: nn.Module, *, rank: int, scale: float, device: torch.device) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = int(base_layer.in_features), int(base_layer.out_features)  # pyright: ignore[reportArgumentType]
        self.lora_A = nn.Parameter(torch.empty(rank, self.in_features, device=device, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, rank, device=device, dtype=torch.float32))
        self.scale = scale
        self.disabled = False
        self._kept: tuple[Any, tuple[Tensor, Tensor]] | None = None  # what the transposes were made from, and they

    @property
    def weight(self) -> Any:
        """The layer's own weight, which networks ask for its dtype."""
        return self.base_layer.weight

    @property
    def bias(self) -> Any:
        """The layer's own bias."""
        return self.base_layer.bias

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = self.base_layer(x, *args, **kwargs)
        if self.disabled:
            return y
        inputs, outputs = x.reshape(-1, x.shape[-1]).to(y.dtype), y.reshape(-1, y.shape[-1])
        if torch.is_grad_enabled():
            A, B = self.lora_A.to(y.dtype), self.lora_B.to(y.dtype)
            return torch.addmm(outputs, inputs @ A.t(), B.t(), alpha=self.scale).view_as(y)
        A_t, B_t = self._transposed(y.dtype)
        return outputs.addmm_(inputs @ A_t, B_t, alpha=self.scale).view_as(y)  # in place saves a copy of all outputs

    def _transposed(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A^T and B^T in `dtype`, without gradient: made once for each of their values, not in each call."""
        A, B = self.lora_A, self.lora_B
        now = (A._version, B._version, A.device, dtype)
        if self._kept is None or self._kept[0] != now:
            self._kept = now, (A.to(dtype).t(), B.to(dtype).t())
        return self._kept[1]


class LoraAdapter:
    """A trainable low-rank adapter on a model's linear layers. A new one is attached.

    Its parameters are fp32 on `device`. `generator` is on the CPU: the same state gives the same initial values for any
    device. A layer narrower than config.rank has an adapter of its own width, with the same scale. ConfigError if no
    layer matches config.targets, or if all are narrower than the rank.
    """

    def __init__(
        self,
        model: nn.Module,
        config: LoraConfig,
        *,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.config = config
        every = linear_layers(model)
        layers = {name: every[name] for name in find_targets(model, config.targets)}
        self._ranks = ranks_of(layers, config.rank)
        self._model = model
        self._layers = {
            name: _LoraLinear(layer, rank=self._ranks[name], scale=config.alpha / config.rank, device=device)
            for name, layer in layers.items()
        }
        for layer in self._layers.values():
            self._initialise(layer.lora_A, generator)
        self.attach()

    def _initialise(self, A: Tensor, generator: torch.Generator) -> None:
        values = torch.empty(A.shape)
        if self.config.init == "gaussian":
            values.normal_(0, 1 / len(A), generator=generator)
        else:
            nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
        with torch.no_grad():
            A.copy_(values)

    def attach(self) -> None:
        """Put the adapter's layers in, and freeze the base model's own parameters."""
        self._trainable = _trainable(self._model)
        self._model.requires_grad_(False)
        for name, layer in self._layers.items():
            _set_submodule(self._model, name, layer)

    def detach(self) -> None:
        """Put the model's own layers back, and unfreeze what was not frozen."""
        for name, layer in self._layers.items():
            _set_submodule(self._model, name, layer.base_layer)
        with torch.inference_mode():  # the only mode in which weights that were made in it can be unfrozen
            for parameter in self._trainable:
                parameter.requires_grad_(True)
        self._trainable = []

    @property
    def narrow(self) -> dict[str, int]:
        """{layer: rank of its adapter} where that is below config.rank."""
        return {name: self._ranks[name] for name in self._layers if self._ranks[name] < self.config.rank}

    def leave_out(self, layers: Collection[str]) -> None:
        """Take layers, by their names, out of the adapter for good."""
        for name in layers:
            _set_submodule(self._model, name, self._layers.pop(name).base_layer)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, the attached adapter adds nothing: the base model."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _enable(self, on: bool) -> None:
        for layer in self._layers.values():
            layer.disabled = not on

    def parameters(self) -> dict[str, nn.Parameter]:
        """{"<module>.lora_A.weight": (rank, in), "<module>.lora_B.weight": (out, rank)}, in the order of the layers."""
        found: dict[str, nn.Parameter] = {}
        for name, layer in self._layers.items():
            found |= {f"{name}.lora_A.weight": layer.lora_A, f"{name}.lora_B.weight": layer.lora_B}
        return found

    def export(self, values: Mapping[str, Tensor] | None = None, prefix: str = "diffusion_model.") -> dict[str, Tensor]:
        """CPU copies under the host's universal keys: `<prefix><module>.lora_A.weight`, `.lora_B.weight` and `.alpha`.

        values: the parameters of an earlier state, by the names of parameters(); None: the current ones. The host takes
        a missing alpha for a scale of 1, so that alpha is always written.
        """
        weights = {
            prefix + name: p.detach().to("cpu", copy=True).contiguous()
            for name, p in (values or self.parameters()).items()
        }
        alphas = {name: self.config.alpha * (self._ranks[name] / self.config.rank) for name in self._layers}
        return weights | {f"{prefix}{name}.alpha": torch.tensor(alpha) for name, alpha in alphas.items()}


def layer_of(parameter: str) -> str:
    """The layer of a parameter, by its name in LoraAdapter.parameters()."""
    return parameter.rsplit(".lora_", 1)[0]


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
