"""What people are shown of runs, read from their folders. Nothing in a folder is changed, and nothing in it is trusted:
what cannot be read is left out, and a folder without anything that can be read is called damaged.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import read_records
from ..training.metrics import checked_record
from .checkpoint import previous
from .folder import LOCK

PICTURES = ("curve", "grid")
"""The pictures of a run that people may ask for."""
MARKS = (LOCK, "metrics.jsonl", "evaluations.json", "checkpoint.safetensors")
"""A folder with one of these files is that of a run."""
MAX_FILE = 64_000_000  # bytes of a file that is read: a hundred thousand steps
CURVES = {"reward": "reward_mean", "spread": "reward_std", "gradient": "grad_norm", "learning rate": "learning_rate"}
"""{what a curve is called: the number in a step's record}."""
KEPT_LINES = 1000  # runs whose lines are remembered


@dataclass(frozen=True)
class RunLine:
    """A run in the list of all."""

    name: str
    status: str  # "training", "finished", "stopped" (it can be resumed), "begun" or "damaged"
    step: int
    steps: int | None  # of the whole run; None where nothing says so
    gain: tuple[float, float] | None  # on held-out prompts, and its standard error
    megabytes: float
    modified: float  # seconds since 1970
    lora: bool


def lines_of(runs: Path, loras: Path, live: str | None = None) -> list[RunLine]:
    """The runs below a folder, newest first. loras: where their LoRAs are; live: the run that trains here."""
    found = []
    with contextlib.suppress(OSError):
        for folder in runs.iterdir():
            if is_run(folder):
                found.append(_line(folder, loras / f"{folder.name}.safetensors", folder.name == live))
    return sorted(found, key=lambda line: line.modified, reverse=True)


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a run: a folder, and no link to one elsewhere."""
    return folder.is_dir() and not folder.is_symlink() and any((folder / name).exists() for name in MARKS)


def view_of(folder: Path, live: bool = False) -> dict[str, Any]:
    """All that is shown of one run: status, step, and {what: numbers, one for each step that was done}."""
    records, whole = _records(folder / "metrics.jsonl")
    step = records[-1]["step"] if records else 0
    return {
        "name": folder.name,
        "status": _status(folder, records, whole, live=live),
        "step": step,
        "steps": _steps(folder),
        "steps_done": [record["step"] for record in records],
        "curves": {name: [_number(record.get(key)) for record in records] for name, key in CURVES.items()},
        "rewards": {
            name: {
                part: [_number((record["rewards"].get(name) or (None, None))[i]) for record in records]
                for i, part in enumerate(("reward", "spread"))
            }
            for name in dict.fromkeys(name for record in records for name in record["rewards"])
        },
        "seconds": {
            phase: [_number(_mapping(record.get("seconds")).get(phase)) for record in records]
            for phase in dict.fromkeys(phase for record in records for phase in _mapping(record.get("seconds")))
        },
        # A crash leaves measurements of steps that have to be made again.
        "evaluations": [each for each in _evaluations(folder) if each["step"] <= step],
        "guard": [each for each in _readings(folder) if each["step"] <= step],
        "pictures": [name for name in PICTURES if (folder / f"{name}.png").is_file()],
    }


def _line(folder: Path, lora: Path, live: bool) -> RunLine:
    files = {}
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(OSError):
            files[path.name] = path.lstat()
    stamp = tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in files.items())
    status, step, steps, gain = _summed_up(folder, stamp)
    return RunLine(
        name=folder.name,
        status="training" if live else status,
        step=step,
        steps=steps,
        gain=gain,
        megabytes=sum(stat.st_size for stat in files.values()) / 1e6,
        modified=max((stat.st_mtime for stat in files.values()), default=0.0),
        lora=lora.is_file(),
    )


@functools.lru_cache(maxsize=KEPT_LINES)
def _summed_up(folder: Path, stamp: Any) -> tuple[str, int, int | None, tuple[float, float] | None]:
    """(status, step, steps, gain) of a folder whose files have this stamp."""
    records, whole = _records(folder / "metrics.jsonl")
    step = records[-1]["step"] if records else 0
    gains = [(each["gain"], each["se"]) for each in _evaluations(folder) if 0 < each["step"] <= step]
    status = _status(folder, records, whole, live=False)
    return status, step, _steps(folder), gains[-1] if gains else None


def _status(folder: Path, records: list[dict[str, Any]], whole: bool, *, live: bool) -> str:
    if live:
        return "training"
    summary = _json(folder / "summary.json", dict)
    if records and summary.get("steps") == records[-1]["step"] and not summary.get("stopped"):
        return "finished"
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file() or previous(checkpoint).is_file():
        return "stopped"
    return "begun" if whole else "damaged"


def _steps(folder: Path) -> int | None:
    """The steps of the whole run, by the recipe in its checkpoint."""
    recipe = _recipe(folder / "checkpoint.safetensors") or _recipe(previous(folder / "checkpoint.safetensors"))
    steps = _mapping(_mapping(recipe.get("config")).get("run")).get("iterations")
    return steps if type(steps) is int and steps > 0 else None


def _recipe(checkpoint: Path) -> Mapping[str, Any]:
    """The recipe in a checkpoint's header; empty where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, RecursionError):
        if not checkpoint.is_file():
            return {}
        with checkpoint.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= MAX_FILE:
                return {}
            metadata = json.loads(file.read(length))["__metadata__"]
        return _mapping(_mapping(json.loads(metadata["pave"])).get("recipe"))
    return {}


def _records(file: Path) -> tuple[list[dict[str, Any]], bool]:
    """(the records of metrics.jsonl in rising order, whether all of it could be read)."""
    try:
        if not file.exists():
            return [], True
        if not _is_read(file):
            return [], False
        values, whole = read_records(file)
    except OSError:
        return [], False
    records: dict[int, dict[str, Any]] = {}
    for value in values:
        try:
            record = checked_record(value)
        except (ValueError, TypeError, LookupError, AttributeError):
            whole = False
            continue
        records[record["step"]] = record
    return [records[step] for step in sorted(records)], whole


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    """{"step", "gain", "se", "judge"} of each evaluation on held-out prompts that says its gain."""
    found = []
    for each in _json(folder / "evaluations.json", list):
        record = _mapping(each)
        step, gain, error = (_number(record.get(name)) for name in ("step", "gain", "gain_se"))
        if step is not None and gain is not None and error is not None:
            found.append({"step": int(step), "gain": gain, "se": error, "judge": _number(record.get("judge"))})
    return sorted(found, key=lambda record: record["step"])


def _readings(folder: Path) -> list[dict[str, Any]]:
    """{"step", "held_out", "drift", "alarms"} of each reading of the guard."""
    file = folder / "guard.jsonl"
    try:
        values = read_records(file)[0] if _is_read(file) else []
    except OSError:
        return []
    found = []
    for each in values:
        record = _mapping(each)
        step, alarms = _number(record.get("step")), record.get("alarms")
        if step is not None and isinstance(alarms, list):
            numbers = {name: _number(record.get(name)) for name in ("held_out", "drift")}
            found.append({"step": int(step), **numbers, "alarms": [str(alarm) for alarm in alarms]})
    return found


def _is_read(file: Path) -> bool:
    """Whether it is a plain file, which a pipe is not, and not too large."""
    return file.is_file() and file.stat().st_size <= MAX_FILE


def _json(file: Path, kind: type[Any]) -> Any:
    """The content of a JSON file; an empty `kind` where it is none of this kind."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if _is_read(file):
            value = json.loads(file.read_text("utf-8"))
            if isinstance(value, kind):
                return value
    return kind()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    """`value` if it is a finite number: JSON of Python knows NaN and infinity, that of browsers does not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        return None
    return value


def seconds_of_a_step(seconds: Mapping[str, Iterable[float | None]], last: int = 10) -> float | None:
    """The mean seconds of the last steps, from the numbers of view_of(); None before the first."""
    of_steps = [sum(each or 0.0 for each in step) for step in zip(*seconds.values(), strict=True)][-last:]
    return sum(of_steps) / len(of_steps) if of_steps else None
