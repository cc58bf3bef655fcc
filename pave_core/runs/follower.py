"""A run in a process that follows another one: it trains and measures its share, and writes nothing.

process 0    reads and writes the run's files, and tells the others what a resumed run goes on from
the others   have nowhere to write: Nowhere stands in for the run's folder and its keeper
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..evaluation.evaluate import Evaluation
from ..evaluation.guard import Reading
from ..policies.lora_file import LoraWeights
from ..training.processes import Processes
from ..training.state import Checkpoint
from .checkpoint import as_bytes, load_checkpoint
from .folder import RunFolder


class Nowhere:
    """The folder and the keeper of a run whose files another process writes."""

    path = metrics = Path()
    name = ""
    lora: Path | None = None
    lora_problem = "process 0 writes it"

    def make_again(self) -> None: ...

    def history(self, step: int) -> list[dict[str, Any]]:
        """The records of earlier steps, which nobody asks this process for."""
        return []

    def save_readings(self, readings: object) -> None: ...

    def save_evaluations(self, evaluations: Mapping[int, Evaluation]) -> None: ...

    def save_measured(self, step: int, evaluation: Evaluation) -> None: ...

    def has_measured(self, step: int) -> bool:
        return True

    def save_group(self, step: int, group: object) -> None: ...

    def save_picture(self, name: str, image: Tensor) -> None: ...

    def save_preview(self, lora: Path, image: Tensor) -> None: ...

    def save_order(self, record: Mapping[str, Any]) -> None: ...

    def save_summary(self, summary: Mapping[str, Any]) -> None: ...

    def save_lora(self, lora: LoraWeights) -> bool:
        return True

    def save_checkpoint(self, checkpoint: Checkpoint) -> bool:
        return True

    def save_best(self, best: Checkpoint) -> bool:
        return True

    def where(self, step: int) -> str:
        return "process 0 knows where"

    def discard(self) -> None: ...

    def release(self) -> None: ...

    def close(self) -> None: ...


def told_checkpoint(processes: Processes, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint of process 0, which alone needs to have one."""
    if not processes.several:
        return checkpoint
    content = processes.told(lambda: b"" if checkpoint is None else as_bytes(checkpoint))
    return checkpoint if processes.leads else _parsed(content)


def told_readings(
    processes: Processes, folder: RunFolder | Nowhere, step: int
) -> tuple[list[Reading], Checkpoint | None]:
    """The guard's readings up to `step` and its best state, as process 0 finds them in the run's folder."""
    readings, best = [], None
    if isinstance(folder, RunFolder):
        readings, best = folder.readings(step), folder.load_best(step)
    said = processes.told(lambda: json.dumps([reading.to_dict() for reading in readings]).encode())
    best = told_checkpoint(processes, best)
    return [Reading.from_dict(each) for each in json.loads(said)] if processes.several else readings, best


def _parsed(content: bytes) -> Checkpoint | None:
    if not content:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.safetensors"
        file.write_bytes(content)
        return load_checkpoint(file)
