"""A run's folder: metrics.jsonl, TensorBoard events, the checkpoint, the pictures and the summary.

<run>/metrics.jsonl              one JSON object a step
<run>/events.out.tfevents.*      the same for TensorBoard
<run>/checkpoint.safetensors     what resume goes on from
<run>/evaluations.json           the means of every measurement on the held-out prompts
<run>/guard.jsonl                one JSON object a measurement of the guard, if the run has one
<run>/best.safetensors           the state with the best held-out reward, likewise
<run>/summary.json, curve.png, grid.png
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..evaluation.evaluate import Evaluation
from ..evaluation.guard import Reading
from ..images import picture
from ..types import StepMetrics
from .checkpoint import Checkpoint, load_checkpoint, write_atomically

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")


def safe_name(field: str, name: str) -> str:
    """`name` if it is a plain file name (letters, digits, space, '.', '_', '-'; at most 100), else ConfigError."""
    name = name.strip()
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(f"{field}: {name!r} is not a plain file name: use letters, digits, spaces, '.', '_' and '-', without a folder")
    return name


class RunFolder:
    """The files of one run. Make it with new() or existing()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.checkpoint = path / "checkpoint.safetensors"
        self.best = path / "best.safetensors"
        self._metrics = path / "metrics.jsonl"
        self._guard = path / "guard.jsonl"
        self._evaluations = path / "evaluations.json"
        self._events: Any = None

    @classmethod
    def new(cls, parent: Path, name: str) -> RunFolder:
        """A fresh folder <parent>/<name>_00001, or the next number that is free: no run writes over another."""
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
        """The folder of a run that left a checkpoint."""
        folder = cls(parent / safe_name("resume", name))
        if not folder.checkpoint.is_file():
            raise ConfigError(f"resume: {name!r} has no checkpoint in {parent}: choose one of {', '.join(cls.resumable(parent)) or 'none yet'}")
        return folder

    @staticmethod
    def resumable(parent: Path) -> list[str]:
        """The names of the runs below `parent` that left a checkpoint, newest first."""
        found = sorted(parent.glob("*/checkpoint.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent.name for path in found]

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Drop what metrics.jsonl holds beyond `step` (it was lost in a crash and will be done again); the records that remain."""
        return _rewind(self._metrics, step)

    def rewind_readings(self, step: int) -> list[Reading]:
        """The same for guard.jsonl."""
        return [Reading.from_dict(record) for record in _rewind(self._guard, step)]

    def save_evaluations(self, evaluations: Mapping[int, Evaluation]) -> None:
        """Write evaluations.json, with what it holds of other steps."""
        known = json.loads(self._evaluations.read_text("utf-8")) if self._evaluations.exists() else []
        records = {record["step"]: record for record in known} | {step: {"step": step, **each.to_dict()} for step, each in evaluations.items()}
        write_atomically(self._evaluations, json.dumps([_finite(records[step]) for step in sorted(records)], indent=1).encode())

    def load_best(self, step: int) -> Checkpoint | None:
        """The state of best.safetensors, if there is one of `step` or before."""
        best = load_checkpoint(self.best) if self.best.exists() else None
        return best if best is not None and best.step <= step else None

    def log(self, metrics: StepMetrics) -> dict[str, Any]:
        """Append a step to metrics.jsonl and the TensorBoard events; the record as written (non-finite numbers become null)."""
        record = _finite(metrics.to_dict())
        _append(self._metrics, record)
        scalars = {
            key: record[key] for key in ("loss", "reward_mean", "reward_std", "anchor_reward", "grad_norm", "learning_rate", "zero_spread_groups")
        }
        for name, (mean, spread) in record["rewards"].items():
            scalars |= {f"reward/{name}": mean, f"spread/{name}": spread}
        self.log_scalars(scalars, metrics.step)
        return record

    def log_reading(self, reading: Reading) -> None:
        """Append a measurement of the guard to guard.jsonl and the TensorBoard events."""
        _append(self._guard, _finite(reading.to_dict()))
        scalars = {"guard/held_out": reading.held_out, "guard/drift": reading.drift}
        self.log_scalars(scalars | {f"guard/{name}": change for name, change in reading.changes.items()}, reading.step)

    def log_scalars(self, scalars: Mapping[str, float | None], step: int) -> None:
        """Write numbers to the TensorBoard events."""
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.path), purge_step=step)
        for name, value in scalars.items():
            if value is not None:
                self._events.add_scalar(name, value, step)

    def save_picture(self, name: str, image: Tensor) -> Path:
        """Write an (H, W, 3) image as <name>.png."""
        path = self.path / f"{name}.png"
        picture(image).save(path)
        return path

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        write_atomically(self.path / "summary.json", json.dumps(_finite(summary), indent=2).encode())

    def discard(self) -> None:
        """Remove the folder if nothing was written to it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def close(self) -> None:
        """Flush and close the TensorBoard events."""
        if self._events is not None:
            self._events.close()
            self._events = None


def _append(file: Path, record: Any) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def _rewind(file: Path, step: int) -> list[dict[str, Any]]:
    """Drop the records of a .jsonl file beyond `step`; those that remain."""
    if not file.exists():
        return []
    records = [record for record in map(_parse, file.read_text("utf-8").splitlines()) if record is not None and record["step"] <= step]
    write_atomically(file, "".join(json.dumps(record) + "\n" for record in records).encode())
    return records


def _parse(line: str) -> dict[str, Any] | None:
    """A line of a .jsonl file, or None for the torn last line of a crash."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _finite(value: Any) -> Any:
    """`value` with NaN and infinity replaced by None, since JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
