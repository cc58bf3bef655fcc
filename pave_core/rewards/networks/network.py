"""A network without weights, and the weights of a file checked against it and put in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .compute import PRECISIONS

_SHOWN = 3  # names in a message


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules made inside have buffers but no memory for weights: these come from a file. No inference tensors, whatever mode the caller is in."""
    from accelerate import init_empty_weights

    with torch.inference_mode(False), torch.no_grad(), init_empty_weights(include_buffers=False):
        yield


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype, field: str, path: Path, what: str
) -> None:
    """Fill a module of empty_weights() with all of `state` and nothing else, as `dtype`; then it is in eval mode and frozen.

    what: the architecture and what to choose instead, for the ConfigError: "X: choose Y".
    """
    wanted = module.state_dict()
    common = [key for key in wanted if key in state]
    misfits = {
        "missing": [key for key in wanted if key not in state],
        "of another shape": [
            f"{k} {tuple(state[k].shape)} not {tuple(wanted[k].shape)}"
            for k in common
            if state[k].shape != wanted[k].shape
        ],
        "too many": [key for key in state if key not in wanted],
    }
    if any(misfits.values()):
        shown = "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in misfits.items() if keys)
        raise ConfigError(f"{field}: {path.name} does not fit {what}. Of {len(wanted)} tensors: {shown}")
    with torch.inference_mode(False), torch.no_grad():
        converted = {key: _converted(state[key], dtype) for key in wanted}
        for key, value in converted.items():
            if not value.sum(dtype=torch.float32).isfinite():
                remedy = (
                    "choose fp32 or bf16"
                    if dtype == torch.float16 and state[key].float().sum().isfinite()
                    else "download it again"
                )
                raise ConfigError(
                    f"{field}: {path.name} has numbers in {key} that are not finite as {_name(dtype)}: {remedy}"
                )
        module.load_state_dict(converted, assign=True)
    module.eval().requires_grad_(False)


def _converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of its own: what is read may be a window on the file, which can change or go."""
    return value.to(dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _name(dtype: torch.dtype) -> str:
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def mlp(width: int, places: Sequence[int]) -> nn.Sequential:
    """Linear layers width - 1024 - 128 - 64 - 16 - 1 at `places`, the head of several rewards. Between them was dropout, and no activation."""
    widths = (width, 1024, 128, 64, 16, 1)
    linear = {place: nn.Linear(n, m) for place, n, m in zip(places, widths, widths[1:])}
    return nn.Sequential(*(linear.get(i, nn.Identity()) for i in range(places[-1] + 1)))
