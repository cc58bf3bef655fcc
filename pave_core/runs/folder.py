"""The folder of a run and its file names.

<run>/metrics.jsonl              one JSON object per step
<run>/events.out.tfevents.*      the same for TensorBoard
<run>/checkpoint.safetensors     the state that a resumed run goes on from, and the one before: *.previous.safetensors
<run>/evaluations.json           the mean scores of every evaluation on the held-out prompts
<run>/guard.jsonl                one JSON object per reading of the guard, if the run has one
<run>/best.safetensors           the state of the guard's best reading, likewise, and the one before
<run>/steering.jsonl             one JSON object per order that was given to the run, if there were any
<run>/summary.json, curve.png, grid.png
<run>/measured, group            small pictures, of held-out prompts at each measurement and of the last group: album.py
<run>/workflow.json              the graph that began the run, where one did
<run>/in_use.lock                locked while a program trains in the folder

Checkpoints are what a run cannot go on without: what they raise, the run decides about. All else are reports: where one
cannot be read it is set aside as <name>.unreadable, where it cannot be written it is missing, and a warning says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from torch import Tensor

from ..errors import MAX_MESSAGE, ConfigError, quoted, shortened
from ..evaluation.evaluate import Evaluation
from ..evaluation.gain import paired_gain
from ..evaluation.guard import Reading
from ..files import (
    WriteError,
    append_records,
    finite,
    read_records,
    reason_of,
    records_text,
    remove_parts,
    safe_name,
    set_aside,
    write_atomically,
)
from ..images import encoded
from ..policies.lora_file import preview_file
from ..training.metrics import Group, checked_record
from ..training.state import Checkpoint
from . import album
from .checkpoint import load_checkpoint, previous

LOCK = "in_use.lock"

R = TypeVar("R")
Warn = Callable[[str], None]
"""Is told what people should know of a file."""


@dataclass(frozen=True)
class Places:
    """Where runs are kept."""

    runs: Path  # the parent of the runs' folders
    loras: Path  # the folder of their LoRAs
    spare: Path  # for what cannot be written there

    def lora(self, run: str) -> Path:
        """The file for the LoRA of the run with this name."""
        return self.loras / f"{run}.safetensors"


class RunFolder:
    """The files of one run. Make it with new() or existing(), which lock it until release(). warn: hears of reports
    that cannot be read or written.
    """

    def __init__(self, path: Path, warn: Warn) -> None:
        self.path = path
        self.name = path.name
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.best = path / "best.safetensors"
        self._readings = path / "guard.jsonl"
        self._evaluations = path / "evaluations.json"
        self._orders = path / "steering.jsonl"
        self._warn = warn
        self._warned: set[str] = set()  # of what could not be written
        self._lock = FileLock(path / LOCK, timeout=0, thread_local=False)

    @classmethod
    def new(cls, parent: Path, name: str, warn: Warn, taken: Callable[[str], bool] = lambda run: False) -> RunFolder:
        """Make a new folder <parent>/<name>_00001, or with the next free number: no run writes over another.

        taken: whether a run's name is not free, although there is no such folder: its LoRA may be left. ConfigError
        for a name that is not a plain file name, or where no folder can be made.
        """
        stem = safe_name("run_name", name)
        number = 1
        while True:
            path = parent / f"{stem}_{number:05}"
            if taken(path.name):
                number += 1
                continue
            try:
                parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()
            except FileExistsError:
                number += 1
            except OSError as error:
                raise ConfigError(f"run_name: the folder {path} cannot be made: {reason_of(error)}") from error
            else:
                folder = cls(path, warn)
                folder.acquire()
                return folder

    @classmethod
    def existing(cls, parent: Path, name: str, warn: Warn) -> RunFolder:
        """The folder of a run that left a checkpoint.

        ConfigError if there is none of this name, or another program trains in it.
        """
        folder = cls(parent / safe_name("resume", name), warn)
        if not any(file.is_file() for file in (folder.checkpoint, previous(folder.checkpoint))):
            others = ", ".join(cls.resumable(parent)[:10]) or "none yet"
            raise ConfigError(f"resume: {quoted(name)} has no checkpoint in {parent}: choose one of {others}")
        folder.acquire()
        remove_parts(folder.path)
        return folder

    @staticmethod
    def resumable(parent: Path) -> list[str]:
        """The names of the runs below `parent` that left a checkpoint, newest first."""
        newest: dict[str, float] = {}
        for path in (*parent.glob("*/checkpoint.safetensors"), *parent.glob("*/checkpoint.previous.safetensors")):
            with contextlib.suppress(OSError):  # it has just been moved
                newest[path.parent.name] = max(newest.get(path.parent.name, 0.0), path.stat().st_mtime)
        return sorted(newest, key=newest.__getitem__, reverse=True)

    def acquire(self) -> None:
        """Lock the folder. ConfigError where another program holds it; a warning where the disk knows no locks."""
        file = Path(self._lock.lock_file)
        try:
            self._lock.acquire()
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
        except Timeout as error:
            who = "another program"
            with contextlib.suppress(OSError, UnicodeDecodeError):
                who = file.read_text("utf-8") or who
            raise ConfigError(
                f"resume: {self.name!r} is in use by {who[:100]}: wait until it has ended, or choose another run"
            ) from error
        except (OSError, NotImplementedError) as error:
            self._warn(f"the run folder {self.path} cannot be locked ({error}): let no other program train in it")

    def make_again(self) -> None:
        """Make and lock the folder again, with a warning, where it was removed or renamed."""
        if self.path.is_dir():
            return
        self._warn(f"the run folder {self.path} was removed or renamed: it is made again")
        self.release()
        with self._report(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.acquire()

    def warn_once(self, text: str) -> None:
        """Tell people what could not be written, which may be tried again and again."""
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    def release(self) -> None:
        """Let other programs use the folder."""
        with contextlib.suppress(OSError):
            self._lock.release()

    def history(self, step: int) -> list[dict[str, Any]]:
        """The records of metrics.jsonl up to `step`; later ones are removed from the file."""
        return self._rewound(self.metrics, step, checked_record, lambda record: record)

    def readings(self, step: int) -> list[Reading]:
        """The guard's readings up to `step`; later ones are removed from the file."""
        return self._rewound(self._readings, step, Reading.from_dict, Reading.to_dict)

    def save_readings(self, readings: Iterable[Reading]) -> None:
        """Write the guard's readings so far to guard.jsonl."""
        with self._report(self._readings):
            write_atomically(self._readings, records_text(finite(reading.to_dict()) for reading in readings).encode())

    def load_checkpoint(self) -> Checkpoint:
        """The state that a resumed run goes on from: the newest that can be read. ConfigError if none can."""
        return self._newest(self.checkpoint)

    def load_best(self, step: int) -> Checkpoint | None:
        """The guard's best state up to `step`, of this reading or the one before; None if there is none."""
        if not any(os.path.lexists(file) for file in (self.best, previous(self.best))):
            return None
        try:
            best = self._newest(self.best)
            if best.step > step and previous(self.best).is_file():  # a crash came between it and the checkpoint
                best = load_checkpoint(previous(self.best))
        except ConfigError as error:
            self._warn(shortened(f"{error}; the guard goes on without the best weights so far", MAX_MESSAGE))
            return None
        return best if best.step <= step else None

    def save_evaluations(self, evaluations: Mapping[int, Evaluation]) -> None:
        """Write evaluations.json; what it holds of other steps is kept. evaluations: {step: evaluation}; their gains
        are counted from step 0, if that is among them.
        """
        records = {record["step"]: record for record in self._known_evaluations()}
        for step, evaluation in evaluations.items():
            records[step] = {"step": step, **evaluation.to_dict()}
            if 0 in evaluations:
                gain, error = paired_gain(evaluations[0].total, evaluation.total)
                records[step] |= {"gain": gain, "gain_se": error}
        text = json.dumps([finite(records[step]) for step in sorted(records)], indent=1)
        with self._report(self._evaluations):
            write_atomically(self._evaluations, text.encode())

    def save_measured(self, step: int, evaluation: Evaluation) -> None:
        """Write small pictures of an evaluation (see album.py), if it has its images."""
        if len(evaluation.images):
            with self._report(self.path / album.MEASURED):
                album.save_measured(self.path, step, evaluation)

    def has_measured(self, step: int) -> bool:
        """Whether the pictures of this step are there."""
        return step in album.steps_measured(self.path)

    def save_group(self, step: int, group: Group) -> None:
        """Write small pictures of a group (see album.py)."""
        with self._report(self.path / album.GROUP):
            album.save_group(self.path, step, group)

    def save_picture(self, name: str, image: Tensor) -> None:
        """Write an (H, W, 3) image in [0, 1] as <name>.png."""
        file = self.path / f"{name}.png"
        with self._report(file):
            write_atomically(file, encoded(image, "PNG"))

    def save_preview(self, lora: Path, image: Tensor) -> None:
        """Write an (H, W, 3) image in [0, 1] or in 8 bits beside the LoRA, where programs that list them look."""
        file = preview_file(lora)
        with self._report(file):
            write_atomically(file, encoded(image, "PNG"))

    def save_order(self, record: Mapping[str, Any]) -> None:
        """Append what was done as it was ordered to steering.jsonl, which nobody reads but people."""
        with self._report(self._orders):
            append_records(self._orders, [record])

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, with null for numbers that are not finite."""
        file = self.path / "summary.json"
        with self._report(file):
            write_atomically(file, json.dumps(finite(summary), indent=2).encode())

    def discard(self) -> None:
        """Unlock the folder, and remove it if nothing was written to it."""
        self.release()
        with contextlib.suppress(OSError):
            nothing = {Path(self._lock.lock_file), self._orders}
            if set(self.path.iterdir()) <= nothing:
                for file in nothing:
                    file.unlink(missing_ok=True)
            self.path.rmdir()

    def _newest(self, path: Path) -> Checkpoint:
        """The checkpoint at `path`; where it is missing or damaged the one before, which then takes its place."""
        before = previous(path)
        try:
            return load_checkpoint(path)
        except ConfigError as error:
            if not before.is_file():
                raise
            checkpoint = load_checkpoint(before)
            said = f"{error}; {before.name} is used instead, of step {checkpoint.step}"
            self._warn(shortened(said, MAX_MESSAGE))
        with self._report(path):
            if path.exists():
                set_aside(path)
            before.replace(path)
        return checkpoint

    def _known_evaluations(self) -> list[dict[str, Any]]:
        """The records in evaluations.json."""
        try:
            records = json.loads(self._evaluations.read_text("utf-8"))
            if not all(isinstance(record["step"], int) for record in records):
                raise TypeError("a step that is no number")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            self._set_aside(self._evaluations, str(error))
            return []
        return records

    def _rewound(
        self, file: Path, step: int, parse: Callable[[Any], R], format: Callable[[R], Mapping[str, Any]]
    ) -> list[R]:
        """The records of a .jsonl file up to `step`, each parsed; the file then holds these alone.

        They are in rising order; one that cannot be parsed, or repeats a step, is left out.
        """
        try:
            values, whole = read_records(file)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._set_aside(file, reason_of(error))
            return []
        records: dict[int, R] = {}
        for value in values:
            try:
                at, record = value["step"], parse(value)
            except (ValueError, TypeError, LookupError, AttributeError):
                whole = False
                continue
            whole = whole and at not in records
            records[at] = record
        kept = [records[at] for at in sorted(records) if at <= step]
        if not whole:
            self._set_aside(file, "some lines are no records")
        with self._report(file):
            write_atomically(file, records_text(finite(format(record)) for record in kept).encode())
        return kept

    def _set_aside(self, file: Path, why: str) -> None:
        with self._report(file):
            aside = set_aside(file)
            said = f"{file} cannot be read ({why}): it is set aside as {aside.name}, and what can be read is kept"
            self._warn(shortened(said, MAX_MESSAGE))

    @contextlib.contextmanager
    def _report(self, file: Path) -> Iterator[None]:
        """Inside, `file` is written; where that fails, a warning says so, once."""
        try:
            yield
        except (OSError, WriteError) as error:
            reason = error.reason if isinstance(error, WriteError) else reason_of(error)
            self.warn_once(f"{file} could not be written ({reason}): the run goes on without it")
