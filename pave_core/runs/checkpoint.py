"""Checkpoints: a safetensors file with the adapter and the optimizer's moments, and all else as JSON in its header.

No random state is stored because there is none: noise and prompt order are functions of (seed, step). A file is written
beside the old one, which is kept as <name>.previous.safetensors, and moved to its place when it is whole: a full disk
or a crash leaves the old one, and a file that was damaged later is known by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import ConfigError, quoted
from ..files import require_header, write_atomically
from ..rollout.curriculum import RunningStats
from ..training.state import COUNTERS, Checkpoint

FORMATS = ("pave-checkpoint-1", "pave-checkpoint-2")
"""The formats that can be read, the last of which is written. The first, of 0.3.0, has no digest."""
PARTS = ("adapter", "optimizer", "average", "earlier")
"""The fields of a Checkpoint that are tensors by name."""

MOST_STEPS, MOST_HALVINGS = 10**9, 100
"""The largest counts of a run. A rate is divided by 2^halvings, whose computation would take all memory."""


class _DamageError(Exception):
    """What is wrong with the content of a file."""


def previous(path: Path) -> Path:
    """Where save_checkpoint keeps the file that was at `path` before."""
    return path.with_suffix(f".previous{path.suffix}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path` (.safetensors), whole or not at all; WriteError if the disk refuses."""
    write_atomically(path, as_bytes(checkpoint), previous=previous(path))


def as_bytes(checkpoint: Checkpoint) -> bytes:
    """The content of its file."""
    tensors = {
        f"{part}.{name}": value.detach().cpu().contiguous()
        for part in PARTS
        for name, value in getattr(checkpoint, part).items()
    }
    header = {"step": checkpoint.step, "recipe": checkpoint.recipe, "counters": checkpoint.counters}
    header["running"] = None if checkpoint.running is None else asdict(checkpoint.running)
    text = json.dumps(header)
    metadata = {"format": FORMATS[-1], "pave": text, "digest": _digest(text, tensors)}
    return save(tensors, metadata=metadata)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of save_checkpoint. ConfigError if it is missing, damaged or of another format."""
    require_header(path, "resume")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") not in FORMATS:
                raise ConfigError(
                    f"resume: {path} is not a checkpoint of this pack (format {quoted(metadata.get('format'))}): "
                    "choose a run folder's checkpoint"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        if metadata["format"] != FORMATS[0] and metadata["digest"] != _digest(metadata["pave"], tensors):
            raise _DamageError("its content is not what was written")
        header = json.loads(metadata["pave"])
        _require(isinstance(header, dict), "its header is no group of values")
        checkpoint = _from_header(header, tensors)
        _check(checkpoint)
    except ConfigError:
        raise
    except (OSError, RuntimeError, SafetensorError, ValueError, TypeError, LookupError, _DamageError) as error:
        raise ConfigError(
            f"resume: {path} cannot be read as a checkpoint ({error or type(error).__name__}): put a copy of it in its "
            "place, or start afresh with resume = none"
        ) from error
    return checkpoint


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """A digest of a header's text and of tensors on the CPU, by their names, types, shapes and bytes."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _from_header(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """A checkpoint as the file says it is; any exception for a header of another shape."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    running = header.get("running")  # 0.3.0 had none
    return Checkpoint(
        step=header["step"],
        recipe=header["recipe"],
        counters=header["counters"],
        running=None if running is None else RunningStats(**running),
        **parts,
    )


def _check(checkpoint: Checkpoint) -> None:
    """_DamageError where a value has another type or shape than it can have, or is not finite."""
    _require(_is_count(checkpoint.step, MOST_STEPS), "step is no count")
    _require(isinstance(checkpoint.recipe, dict), "recipe is no group of settings")
    counters = checkpoint.counters
    _require(isinstance(counters, dict), "counters is no group of numbers")
    for name in COUNTERS:
        most = MOST_HALVINGS if name in ("halvings", "scale_halvings") else MOST_STEPS
        _require(_is_count(counters.get(name, 0), most), f"{name} is no count")
    if checkpoint.running is not None:
        _require(all(isinstance(value, int | float) for value in vars(checkpoint.running).values()), "running")
    adapter = checkpoint.adapter
    for part in PARTS:
        for name, value in getattr(checkpoint, part).items():
            _require(value.is_floating_point() and bool(value.isfinite().all()), f"{part}.{name} is not finite")
    for part in ("average", "earlier"):
        values = getattr(checkpoint, part)
        for name, value in values.items():
            _require(name in adapter and value.shape == adapter[name].shape, f"{part}.{name} fits no layer")
        _require(not values or values.keys() == adapter.keys(), f"{part} lacks layers")
    moments: dict[str, set[str]] = {}
    for key, value in checkpoint.optimizer.items():
        name, bar, moment = key.partition("|")
        fits = name in adapter and (value.ndim == 0 or value.shape == adapter[name].shape)
        _require(bool(bar and moment) and fits, f"optimizer.{key} fits no layer")
        moments.setdefault(name, set()).add(moment)
    _require(len(set(map(frozenset, moments.values()))) <= 1, "the optimizer's moments are not whole")
    # Before the first update, and when a guard has sent it back there, a state has none, and B is at 0.
    changed = any(bool(value.any()) for name, value in adapter.items() if "lora_B" in name)
    _require(bool(moments) or not changed or _is_sgd(checkpoint.recipe), "the optimizer's moments are missing")


def _is_sgd(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe's optimizer is SGD, which has no moments without momentum."""
    try:
        return recipe["config"]["optim"]["optimizer"] == "SGD"
    except (TypeError, LookupError):
        return False


def _require(true: bool, otherwise: str) -> None:
    if not true:
        raise _DamageError(otherwise)


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
