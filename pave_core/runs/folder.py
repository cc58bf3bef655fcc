"""The folder of a run and its file names.

<run>/metrics.jsonl              one JSON object per step
<run>/events.out.tfevents.*      the same for TensorBoard
<run>/checkpoint.safetensors     the state that a resumed run goes on from
<run>/evaluations.json           the mean scores of every evaluation on the held-out prompts
<run>/guard.jsonl                one JSON object per reading of the guard, if the run has one
<run>/best.safetensors           the state of the guard's best reading, likewise
<run>/summary.json, curve.png, grid.png
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..evaluation.evaluate import Evaluation
from ..evaluation.guard import Reading
from ..files import append_record, finite, rewind, safe_name, write_atomically
from ..images import picture
from ..training.state import Checkpoint
from .checkpoint import load_checkpoint


@dataclass(frozen=True)
class Places:
    """Where runs are kept."""

    runs: Path  # the parent of the runs' folders
    loras: Path  # the folder of their LoRAs

    def lora(self, run: str) -> Path:
        """The file for the LoRA of the run with this name."""
        return self.loras / f"{run}.safetensors"


class RunFolder:
    """The files of one run. Make it with new() or existing()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.best = path / "best.safetensors"
        self._readings = path / "guard.jsonl"
        self._evaluations = path / "evaluations.json"

    @classmethod
    def new(cls, parent: Path, name: str) -> RunFolder:
        """Make a new folder <parent>/<name>_00001, or with the next free number: no run writes over another.

        ConfigError for a name that is not a plain file name.
        """
        stem = safe_name("run_name", name)
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = parent / f"{stem}_{number:05}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    @classmethod
    def existing(cls, parent: Path, name: str) -> RunFolder:
        """The folder of a run that left a checkpoint. ConfigError if there is none of this name."""
        folder = cls(parent / safe_name("resume", name))
        if not folder.checkpoint.is_file():
            others = ", ".join(cls.resumable(parent)) or "none yet"
            raise ConfigError(f"resume: {name!r} has no checkpoint in {parent}: choose one of {others}")
        return folder

    @staticmethod
    def resumable(parent: Path) -> list[str]:
        """The names of the runs below `parent` that left a checkpoint, newest first."""
        found = sorted(parent.glob("*/checkpoint.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent.name for path in found]

    def history(self, step: int) -> list[dict[str, Any]]:
        """The records of metrics.jsonl up to `step`; later ones are removed from the file."""
        return rewind(self.metrics, step)

    def readings(self, step: int) -> list[Reading]:
        """The guard's readings up to `step`; later ones are removed from the file."""
        return [Reading.from_dict(record) for record in rewind(self._readings, step)]

    def append_reading(self, reading: Reading) -> None:
        """Append a reading of the guard to guard.jsonl."""
        append_record(self._readings, finite(reading.to_dict()))

    def load_best(self, step: int) -> Checkpoint | None:
        """The state in best.safetensors; None if there is none, or if it is of a step after `step`."""
        best = load_checkpoint(self.best) if self.best.exists() else None
        return best if best is not None and best.step <= step else None

    def save_evaluations(self, evaluations: Mapping[int, Evaluation]) -> None:
        """Write evaluations.json; what it holds of other steps is kept. evaluations: {step: evaluation}."""
        known = json.loads(self._evaluations.read_text("utf-8")) if self._evaluations.exists() else []
        records = {record["step"]: record for record in known}
        records |= {step: {"step": step, **evaluation.to_dict()} for step, evaluation in evaluations.items()}
        text = json.dumps([finite(records[step]) for step in sorted(records)], indent=1)
        write_atomically(self._evaluations, text.encode())

    def save_picture(self, name: str, image: Tensor) -> Path:
        """Write an (H, W, 3) image in [0, 1] as <name>.png, and return its path."""
        path = self.path / f"{name}.png"
        picture(image).save(path)
        return path

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, with null for numbers that are not finite."""
        write_atomically(self.path / "summary.json", json.dumps(finite(summary), indent=2).encode())

    def discard(self) -> None:
        """Remove the folder if nothing was written to it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()
