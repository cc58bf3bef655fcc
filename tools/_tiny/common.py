"""What the stages of make_tiny.py share: initialisation from a seed, learning rates, averaged weights, atomic files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from .host import load_host_tiny

_files = load_host_tiny()
TINY: Path = _files.TINY
VAE: Path = _files.VAE
DIFFUSION_MODEL: Path = _files.DIFFUSION_MODEL
TEXT_ENCODER: Path = _files.TEXT_ENCODER
OPEN_CLIP_MODEL: Path = _files.OPEN_CLIP_MODEL
OPEN_CLIP_CONFIG: Path = _files.OPEN_CLIP_CONFIG
SHAPE_CLASSIFIER: Path = _files.SHAPE_CLASSIFIER
PREFERENCE: Path = _files.PREFERENCE

Metrics = dict[str, float]


def initialise(module: nn.Module, rng: Generator, gain: float = 1.0) -> None:
    """Draw every weight from N(0, gain^2 / fan_in) and embeddings from N(0, 0.02^2); set biases to 0, norms to 1.

    The host's layers come uninitialised.
    """
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "embedding" in name:
                p.copy_(0.02 * torch.randn(p.shape, generator=rng))
            elif p.ndim > 1:
                p.copy_(gain / math.sqrt(p[0].numel()) * torch.randn(p.shape, generator=rng))
            elif name.endswith("bias"):
                p.zero_()
            else:
                p.fill_(1.0)


def learning_rates(peak: float, steps: int, warmup: int = 50) -> Iterator[tuple[int, float]]:
    """(step, rate): linear warm-up, then a cosine down to a hundredth of the peak."""
    for step in range(steps):
        cosine = 0.505 + 0.495 * math.cos(math.pi * step / steps)
        yield step, peak * cosine * min(1.0, (step + 1) / warmup)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class Average:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.module, self.decay = module, decay
        self.mean = [p.detach().clone() for p in module.parameters()]

    def update(self) -> None:
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.module.parameters()], 1 - self.decay)

    def apply(self) -> None:
        with torch.no_grad():
            for p, mean in zip(self.module.parameters(), self.mean, strict=True):
                p.copy_(mean)


def tell(stage: str, step: int, started: float, **values: float) -> None:
    """Print a line about the progress of a stage."""
    shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
    print(f"[{stage}] step {step:5d}  {time.monotonic() - started:6.0f} s  {shown}", flush=True)


def save_weights(path: Path, state: dict[str, Tensor], metrics: Metrics) -> None:
    """Write floats in half precision, with the stage's metrics in the file's metadata (key "figures").

    The file appears whole or not at all.
    """
    state = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}
    part = path.with_suffix(".part")
    save_file(state, part, metadata={"figures": json.dumps(metrics)})
    part.replace(path)


def read_metrics(path: Path) -> Metrics:
    """The metrics that a stage saved with its weights."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["figures"])
