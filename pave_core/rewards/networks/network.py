"""Networks that are made without weights, and filled with those of a file once they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...packages import needed
from .compute import PRECISIONS

_SHOWN = 3  # names in a message


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules that are made inside have buffers but no memory for weights, which come from a file.

    None of their tensors is an inference tensor, even where the caller is in inference mode.
    """
    with needed("reward", "accelerate>=0.26"):
        from accelerate import init_empty_weights

    with torch.inference_mode(False), torch.no_grad(), init_empty_weights(include_buffers=False):
        yield


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], *, dtype: torch.dtype, field: str, path: Path, what: str
) -> None:
    """Fill a module of empty_weights() with all of `state` and nothing else, as `dtype`; leave it frozen, in eval mode.

    field, path: the input that named the file, and the file. what: the architecture and what to choose instead, as
    "X: choose Y". All three are for the ConfigError where names or shapes differ, or a number is not finite.
    """
    wanted = module.state_dict()
    if misfits := _misfits(wanted, state):
        raise ConfigError(f"{field}: {path.name} does not fit {what}. Of {len(wanted)} tensors: {misfits}")
    with torch.inference_mode(False), torch.no_grad():
        converted = {key: _converted(state[key], dtype) for key in wanted}
        for key, value in converted.items():
            if not value.sum(dtype=torch.float32).isfinite():
                too_large = dtype == torch.float16 and state[key].float().sum().isfinite()
                remedy = "choose fp32 or bf16" if too_large else "download it again"
                wrong = f"has numbers in {key} that are not finite as {_name(dtype)}"
                raise ConfigError(f"{field}: {path.name} {wrong}: {remedy}")
        module.load_state_dict(converted, assign=True)
    module.eval().requires_grad_(False)


def _misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How the names and shapes of `state` differ from those of `wanted`, in words; empty where they do not."""
    missing = [key for key in wanted if key not in state]
    too_many = [key for key in state if key not in wanted]
    shapes = {key: (tuple(state[key].shape), tuple(wanted[key].shape)) for key in wanted if key in state}
    other_shape = [f"{key} {theirs} not {ours}" for key, (theirs, ours) in shapes.items() if theirs != ours]
    kinds = {"missing": missing, "of another shape": other_shape, "too many": too_many}
    return "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in kinds.items() if keys)


def _converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of `value`: what is read may be a view of the file on disk, which can change or be deleted."""
    return value.to(dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _name(dtype: torch.dtype) -> str:
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def mlp(width: int, places: Sequence[int]) -> nn.Sequential:
    """The head of several rewards: linear layers width - 1024 - 128 - 64 - 16 - 1, the i-th at position places[i].

    (n, width) -> (n, 1). The other positions were dropout; there is no activation.
    """
    widths = (width, 1024, 128, 64, 16, 1)
    linear = {place: nn.Linear(n, m) for place, n, m in zip(places, widths, widths[1:])}
    return nn.Sequential(*(linear.get(i, nn.Identity()) for i in range(places[-1] + 1)))
