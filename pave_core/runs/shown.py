"""What people are shown of runs, read from their folders. Nothing in a folder is changed, and nothing in it is trusted:
what cannot be read is left out, and a folder without anything that can be read is called damaged.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import stat_result
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..files import finite, read_records
from ..policies.lora_file import preview_file
from ..training.metrics import checked_record
from . import album
from .checkpoint import previous
from .folder import LOCK
from .recipe import load_recipe

PICTURES = ("curve", "grid")
"""The pictures of a run that people may ask for."""
MARKS = (LOCK, "metrics.jsonl", "evaluations.json", "checkpoint.safetensors")
"""A folder with one of these files is that of a run."""
MAX_FILE = 64_000_000  # bytes of a file that is read: a hundred thousand steps
CURVES = {
    **{"reward": "reward_mean", "spread": "reward_std", "gradient": "grad_norm", "learning rate": "learning_rate"},
    "memory": "memory",
}
"""{what a curve is called: the number in a step's record}."""
LOSS_CURVES = {"divergence": "kl", "limited": "limited"}
"""{what a curve is called: what it is the mean of, over the chains of a step (SegmentMetrics)}."""
SKETCHED = 40  # points of the curve in the list
WORKFLOW = "workflow.json"
CLICKED = Path("person", "clicks.jsonl")  # what a person has answered
MAX_WORKFLOW = 8_000_000
"""The most bytes of a workflow that is kept."""
KEPT_LINES = 1000  # runs whose lines are remembered


@dataclass(frozen=True)
class RunLine:
    """A run in the list of all."""

    name: str
    status: str  # "training", "finished", "stopped" (it can be resumed), "begun" or "damaged"
    step: int
    steps: int | None  # of the whole run; None where nothing says so
    gain: tuple[float, float] | None  # on held-out prompts, and its standard error
    reward: float | None  # of the last step
    curve: list[float | None]  # the gain by measurement where there are three, else the reward by step, thinned out
    megabytes: float
    modified: float  # seconds since 1970
    lora: bool
    person: bool  # whether somebody has answered in it
    resumable: bool
    workflow: bool  # whether the graph that began it is there
    picture: str | None  # the version of the picture that shows what it has learnt


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
    measured = album.measured_of(folder)
    return {
        "name": folder.name,
        "status": _status(folder, records, whole, live=live),
        "step": step,
        "steps": _steps(folder),
        "steps_done": [record["step"] for record in records],
        "curves": {name: [_number(record.get(key)) for record in records] for name, key in CURVES.items()}
        | {name: _of_loss(records, key) for name, key in LOSS_CURVES.items()},
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
        "measured": measured | {"steps": [each for each in measured["steps"] if each <= step]},
        "resumable": _resumable(folder),
        "person": (folder / CLICKED).is_file(),
        "workflow": (folder / WORKFLOW).is_file(),
    }


def recipe_in(folder: Path, lora: Path) -> Mapping[str, Any]:
    """The recipe of a run, from its checkpoint or its LoRA; empty where there is none, or it cannot be read."""
    found = _recipe_of_checkpoint(folder)
    with contextlib.suppress(ConfigError):
        found = found or load_recipe(lora)
    return finite(found)


def workflow_in(folder: Path) -> Mapping[str, Any] | None:
    """The graph that began a run, as the page opens it; None where there is none, or it is no such graph."""
    file = folder / WORKFLOW
    graph = _json(file, dict) if not file.is_symlink() and _is_read(file, MAX_WORKFLOW) else {}
    return finite(graph) if isinstance(graph.get("nodes"), list) else None


def picture_of(folder: Path, lora: Path) -> Path | None:
    """A picture that shows what a run has learnt: that beside its LoRA, else that of its last measurement."""
    beside = preview_file(lora)
    if _is_read(beside) and not beside.is_symlink():
        return beside
    steps = album.steps_measured(folder)
    return album.picture_in(folder, album.MEASURED, str(steps[-1]), "0") if steps else None


def _line(folder: Path, lora: Path, live: bool) -> RunLine:
    files = _files(folder)
    stamp = tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in files.items())
    found = _summed_up(folder, stamp)
    return RunLine(
        name=folder.name,
        status="training" if live else found.status,
        step=found.step,
        steps=found.steps,
        gain=found.gain,
        reward=found.reward,
        curve=found.curve,
        megabytes=sum(stat.st_size for stat in files.values()) / 1e6,
        modified=max((stat.st_mtime for stat in files.values()), default=0.0),
        lora=lora.is_file(),
        person=(folder / CLICKED).is_file(),
        resumable=_resumable(folder),
        workflow=WORKFLOW in files,
        picture=_version(picture_of(folder, lora)),
    )


def _files(folder: Path) -> dict[str, stat_result]:
    """{name: its state} of the files in a folder and in those of its pictures."""
    found = {}
    for place in (folder, *(folder / name for name in (album.MEASURED, album.GROUP))):
        with contextlib.suppress(OSError):
            for path in sorted(place.iterdir()) if not place.is_symlink() else ():
                with contextlib.suppress(OSError):
                    if not path.is_dir() or path.is_symlink():
                        found[str(path.relative_to(folder))] = path.lstat()
    return found


def _version(file: Path | None) -> str | None:
    with contextlib.suppress(OSError):
        return None if file is None else str(file.stat().st_mtime_ns)
    return None


class _Sums(NamedTuple):
    """What RunLine says of the numbers of a run."""

    status: str
    step: int
    steps: int | None
    gain: tuple[float, float] | None
    reward: float | None
    curve: list[float | None]


@functools.lru_cache(maxsize=KEPT_LINES)
def _summed_up(folder: Path, stamp: Any) -> _Sums:
    """Of a folder whose files have this stamp."""
    records, whole = _records(folder / "metrics.jsonl")
    step = records[-1]["step"] if records else 0
    evaluations = [each for each in _evaluations(folder) if each["step"] <= step]
    gains = [(each["gain"], each["se"]) for each in evaluations if each["step"] > 0]
    rewards = [_number(record["reward_mean"]) for record in records]
    curve = [each["gain"] for each in evaluations] if len(evaluations) > 2 else rewards
    return _Sums(
        _status(folder, records, whole, live=False),
        step,
        _steps(folder),
        gains[-1] if gains else None,
        rewards[-1] if rewards else None,
        _sketched(curve),
    )


def _sketched(values: Sequence[float | None]) -> list[float | None]:
    """At most SKETCHED of the values, evenly among them, the first and the last included."""
    last, points = len(values) - 1, min(len(values), SKETCHED)
    return [values[round(i * last / max(1, points - 1))] for i in range(points)]


def _status(folder: Path, records: list[dict[str, Any]], whole: bool, *, live: bool) -> str:
    if live:
        return "training"
    summary = _json(folder / "summary.json", dict)
    if records and summary.get("steps") == records[-1]["step"] and not summary.get("stopped"):
        return "finished"
    if _resumable(folder):
        return "stopped"
    return "begun" if whole else "damaged"


def _resumable(folder: Path) -> bool:
    checkpoint = folder / "checkpoint.safetensors"
    return checkpoint.is_file() or previous(checkpoint).is_file()


def _steps(folder: Path) -> int | None:
    """The steps of the whole run, by the recipe in its checkpoint."""
    steps = _mapping(_mapping(_recipe_of_checkpoint(folder).get("config")).get("run")).get("iterations")
    return steps if type(steps) is int and steps > 0 else None


def _recipe_of_checkpoint(folder: Path) -> Mapping[str, Any]:
    checkpoint = folder / "checkpoint.safetensors"
    return _recipe(checkpoint) or _recipe(previous(checkpoint))


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


def _of_loss(records: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
    """The mean of a number over the chains of each step; all None where it is 0 throughout, as there is none then."""
    found: list[float | None] = []
    for record in records:
        values = [_number(_mapping(chain).get(key)) for chain in _mapping(record.get("segments")).values()]
        known = [value for value in values if value is not None]
        found.append(sum(known) / len(known) if known else None)
    return found if any(found) else [None] * len(found)


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


def _is_read(file: Path, most: int = MAX_FILE) -> bool:
    """Whether it is a plain file, which a pipe is not, and not too large."""
    return file.is_file() and file.stat().st_size <= most


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
