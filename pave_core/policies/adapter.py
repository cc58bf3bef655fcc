"""The LoRA adapter: peft layers put into a flow model and taken out again, and their export in the host's key format.

    y = W x + (alpha / rank) B A x          arXiv 2106.09685, eq. 3

A starts as N(0, 1 / rank^2) ("gaussian") or Kaiming-uniform ("kaiming"), B as 0: a fresh adapter changes nothing.

The adapter adds to the layer's output, so that the base weight is only read: fp8 and GGUF layers train as they are. Its
parameters are fp32, and it computes in the dtype of the layer's output, as the network around it does.
attach() and detach() swap modules in place; after detach() every layer is the model's own again, so that a host may
move, patch and unpatch the base model in between.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..config.adapter import LoraConfig
from .targets import find_targets, linear_layers, ranks_of

_ADAPTER = "pave"


class _LoraLinear(PeftLinear):
    """peft's layer, computed in the dtype of the base layer's output; peft computes in that of the parameters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.matrices: tuple[Tensor, ...] = ()  # A and B, which take a while to find in peft's dictionaries of modules
        self._kept: tuple[Any, tuple[Tensor, Tensor]] | None = None  # what the transposes were made from, and they

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = self.base_layer(x, *args, **kwargs)
        if self._disable_adapters:
            return y
        inputs, outputs = x.reshape(-1, x.shape[-1]).to(y.dtype), y.reshape(-1, y.shape[-1])
        scale = self.scaling[_ADAPTER]
        if torch.is_grad_enabled():
            A, B = (matrix.to(y.dtype) for matrix in self.matrices)
            return torch.addmm(outputs, inputs @ A.t(), B.t(), alpha=scale).view_as(y)
        A_t, B_t = self._transposed(y.dtype)
        return outputs.addmm_(inputs @ A_t, B_t, alpha=scale).view_as(y)  # in place saves a copy of all outputs

    def _transposed(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A^T and B^T in `dtype`, without gradient: made once for each of their values, not in each call."""
        A, B = self.matrices
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
        # A pattern, since peft takes the names of a list for the ends of names.
        names = "|".join(map(re.escape, layers))
        peft_config = PeftLoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names)  # pyright: ignore[reportArgumentType]
        peft_config._register_custom_module(dict.fromkeys({type(layer) for layer in layers.values()}, _LoraLinear))
        self._trainable = _trainable(model)  # peft freezes them
        with torch.random.fork_rng(devices=[]):
            inject_adapter_in_model(peft_config, model, adapter_name=_ADAPTER)
        delattr(model, "peft_config")  # peft's own record; detach() must leave nothing behind
        self._model = model
        self._layers: dict[str, _LoraLinear] = {name: model.get_submodule(name) for name in layers}  # pyright: ignore[reportAttributeAccessIssue]
        for name, layer in self._layers.items():
            self._initialise(layer, self._ranks[name], generator=generator, device=device)

    def _initialise(self, layer: _LoraLinear, rank: int, *, generator: torch.Generator, device: torch.device) -> None:
        if rank < self.config.rank:
            layer.lora_A[_ADAPTER] = skip_init(nn.Linear, layer.in_features, rank, bias=False)
            layer.lora_B[_ADAPTER] = skip_init(nn.Linear, rank, layer.out_features, bias=False)
        A, B = _matrices(layer)
        for matrix in (A, B):
            matrix.to(device=device, dtype=torch.float32).requires_grad_(True)
        values = torch.empty(A.weight.shape)
        if self.config.init == "gaussian":
            values.normal_(0, 1 / rank, generator=generator)
        else:
            nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
        with torch.no_grad():
            A.weight.copy_(values)
            B.weight.zero_()
        layer.matrices = (A.weight, B.weight)

    def attach(self) -> None:
        """Put the adapter's layers in, and freeze the base model's own parameters."""
        self._trainable = _trainable(self._model)
        self._model.requires_grad_(False)
        for name, layer in self._layers.items():
            _set_submodule(self._model, name, layer)

    def detach(self) -> None:
        """Put the model's own layers back, and unfreeze what was not frozen."""
        for name, layer in self._layers.items():
            _set_submodule(self._model, name, layer.get_base_layer())
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
            _set_submodule(self._model, name, self._layers.pop(name).get_base_layer())

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
            layer._disable_adapters = not on

    def parameters(self) -> dict[str, nn.Parameter]:
        """{"<module>.lora_A.weight": (rank, in), "<module>.lora_B.weight": (out, rank)}, in the order of the layers."""
        found: dict[str, Tensor] = {}
        for name, layer in self._layers.items():
            A, B = _matrices(layer)
            found |= {f"{name}.lora_A.weight": A.weight, f"{name}.lora_B.weight": B.weight}
        return cast("dict[str, nn.Parameter]", found)

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


def _matrices(layer: PeftLinear) -> tuple[nn.Linear, nn.Linear]:
    """The linear layers A, with a weight of (rank, in), and B, of (out, rank)."""
    return cast(nn.Linear, layer.lora_A[_ADAPTER]), cast(nn.Linear, layer.lora_B[_ADAPTER])


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
