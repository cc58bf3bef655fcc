"""Checkpoints: one safetensors file with the adapter, the optimizer's moments and, as JSON in its header, everything else.

No random state is stored because there is none: noise and prompt order are functions of (seed, step). A file is written beside
the old one and moved over it when it is whole, so that a full disk or a crash leaves the old checkpoint as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import ConfigError, TrainingError

FORMAT = "pave-checkpoint-1"
_FREE = ("iterations", "checkpoint_every", "batch_size")
"""Settings that may differ between a checkpoint and the run that resumes it: they do not change what is learnt in a step."""


@dataclass(frozen=True)
class Checkpoint:
    """A training state at rest."""

    step: int
    recipe: dict[str, Any]  # plain JSON values: settings, rewards, prompts, the base model's fingerprint
    adapter: dict[str, Tensor]  # parameter name -> values
    optimizer: dict[str, Tensor]  # "<parameter name>|<moment>" -> values
    counters: dict[str, int]


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` or leave what was there; a TrainingError names the file and the reason."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise TrainingError(
            f"could not write {path}: {error.strerror or error}; what was there before is intact: free some space and resume"
        ) from error


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path` (.safetensors), whole or not at all."""
    tensors = {f"adapter.{name}": value for name, value in checkpoint.adapter.items()}
    tensors |= {f"optimizer.{name}": value for name, value in checkpoint.optimizer.items()}
    header = {"step": checkpoint.step, "recipe": checkpoint.recipe, "counters": checkpoint.counters}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(tensors, metadata={"format": FORMAT, "pave": json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of save_checkpoint. ConfigError if it is missing, damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ConfigError(
                    f"resume: {path} is not a checkpoint of this pack (format {metadata.get('format')!r}): choose a run folder's checkpoint"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        header = json.loads(metadata["pave"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"resume: {path} can not be read as a checkpoint ({error}): start afresh with resume = none") from error
    return Checkpoint(
        step=header["step"],
        recipe=header["recipe"],
        adapter={name.removeprefix("adapter."): value for name, value in tensors.items() if name.startswith("adapter.")},
        optimizer={name.removeprefix("optimizer."): value for name, value in tensors.items() if name.startswith("optimizer.")},
        counters=header["counters"],
    )


def check_recipe(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigError with the first setting in which the checkpoint's recipe differs from this run's."""
    as_saved = json.loads(json.dumps([saved, now]))
    _check_equal(as_saved[0], as_saved[1], "")


def _check_equal(saved: Any, now: Any, where: str) -> None:
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        for key in sorted(saved.keys() | now.keys()):
            if key not in _FREE:
                _check_equal(saved.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif saved != now:
        if where == "model":
            raise ConfigError(
                "model: the checkpoint was made with another base model: connect the model that the run began with, or set resume to none"
            )
        raise ConfigError(f"{where}: the checkpoint was made with {_short(saved)}, now it is {_short(now)}: set it back, or set resume to none")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{"<parameter name>|<moment>": values} of an optimizer over the named parameters."""
    return {
        f"{name}|{moment}": value for name, p in names.items() for moment, value in optimizer.state.get(p, {}).items() if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """The inverse of optimizer_tensors. The moments go to their parameter's device; torch's optimizers keep their counters on the CPU."""
    optimizer.state.clear()
    for key, value in tensors.items():
        name, moment = key.split("|")
        optimizer.state[names[name]][moment] = value.clone() if value.ndim == 0 else value.to(names[name].device, copy=True)
