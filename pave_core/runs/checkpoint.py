"""Checkpoints: a safetensors file with the adapter and the optimizer's moments, and all else as JSON in its header.

No random state is stored because there is none: noise and prompt order are functions of (seed, step). A file is written
beside the old one and moved over it when it is whole, so that a full disk or a crash leaves the old checkpoint as it
was.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import ConfigError
from ..files import require_header, write_atomically
from ..rollout.curriculum import RunningStats
from ..training.state import Checkpoint

FORMAT = "pave-checkpoint-1"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path` (.safetensors), whole or not at all; TrainingError if the disk refuses."""
    tensors = {f"adapter.{name}": value for name, value in checkpoint.adapter.items()}
    tensors |= {f"optimizer.{name}": value for name, value in checkpoint.optimizer.items()}
    tensors |= {f"average.{name}": value for name, value in checkpoint.average.items()}
    header = {"step": checkpoint.step, "recipe": checkpoint.recipe, "counters": checkpoint.counters}
    header["running"] = None if checkpoint.running is None else asdict(checkpoint.running)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(tensors, metadata={"format": FORMAT, "pave": json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of save_checkpoint. ConfigError if it is missing, damaged or of another format."""
    require_header(path, "resume")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ConfigError(
                    f"resume: {path} is not a checkpoint of this pack (format {metadata.get('format')!r}): choose a "
                    "run folder's checkpoint"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        header = json.loads(metadata["pave"])
        if not isinstance(header, dict) or not {"step", "recipe", "counters"} <= header.keys():
            raise ValueError("its record lacks step, recipe or counters")
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"resume: {path} cannot be read as a checkpoint ({error}): start afresh with resume = none"
        ) from error

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    running = header.get("running")
    return Checkpoint(
        step=header["step"],
        recipe=header["recipe"],
        adapter=part("adapter."),
        optimizer=part("optimizer."),
        counters=header["counters"],
        average=part("average."),
        running=None if running is None else RunningStats(**running),
    )
