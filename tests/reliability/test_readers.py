"""Every file of a run that is read back, damaged in many ways: a clear refusal or a warning, and never other weights.

A run of the toy world is cut at step 4 of 6. Each form of damage is done to a copy of its folder, which is then
resumed. What may come of it:

    refused   a ConfigError that names the file; nothing in the folder is changed
    warned    the run goes on after a warning; adapter and moments end as those of the run that was not cut
    equal     the same without a warning: the damage was none
    unnoticed the same, but a report holds another number, or fewer: allowed in a report, which decides nothing
"""

from __future__ import annotations

import copy
import json
import math
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from _small_runs import table
from _toy import PROMPTS, Brightness, Hears, Negative, ToyDecoder, ToyPolicy, drive, lines, same, toy_config
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.rollout.prompts import PromptSet
from pave_core.runs import begin as core
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.runs.folder import Places
from pave_core.runs.run import Run
from pave_core.runs.settings import RunSettings, Task
from pave_core.scoring.mix import RewardMix

CUT, WHOLE = 4, 6
RUN = "toy_00001"
GUARD = GuardSettings(GuardConfig(every=2, action="lower learning rate", max_drop=0.4), Negative())
HOSTILE: tuple[Any, ...] = (
    None, True, "", "text", "\ud800", "4", 2.5, -5, 10**400, 1e300, math.nan, math.inf, [], [1], {}, {"a": {"b": [1]}},
)  # fmt: skip
"""Values of other types, and beyond any range, for a key of a file."""
DEEP = "[" * 100_000


def begin(folder: Path, *, resume: str = "none", heard: Hears | None = None) -> Run:
    """A run whose files are below `folder`: guard, evaluations, a running mean of the weights, chosen prompts."""
    config = toy_config(iterations=WHOLE, candidates=2)
    config = replace(config, optim=replace(config.optim, ema_decay=0.5))
    settings = RunSettings(
        name="toy",
        resume=resume,
        evaluation_seeds=3,
        evaluate_every=3,
        check_reward=False,
        iterations=WHOLE,
        guard=GUARD,
    )
    return core.begin(
        ToyPolicy(config.lora, config.run.seed),
        ToyDecoder(),
        task=Task(config, settings, PromptSet(PROMPTS[:2], PROMPTS[2:]), RewardMix.of(Brightness())),
        places=Places(folder / "runs", folder / "loras", folder / "spare"),
        reporters=[] if heard is None else [heard],
    )


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    """A folder with a run that was cut after step 4, its lock released."""
    folder = tmp_path_factory.mktemp("cut")
    run = begin(folder)
    drive(run, until=CUT)
    run.stop("cut")
    assert (run.folder.path / "best.safetensors").is_file()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Any]:
    """What the same run leaves uncut."""
    run = begin(tmp_path_factory.mktemp("whole"))
    drive(run)
    return ends(run)


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """The curve is not drawn: that takes four times as long as the rest, and a checkpoint has no part in it."""
    monkeypatch.setattr("pave_core.runs.run.reward_curve", lambda *readings, **more: torch.ones(8, 8, 3))


def ends(run: Run) -> dict[str, Any]:
    """What a run that has made its steps leaves."""
    outcome = run.finish()
    state = load_checkpoint(run.folder.checkpoint)
    return {
        "adapter": state.adapter,
        "optimizer": state.optimizer,
        "average": state.average,
        "lora": dict(outcome.lora),
        "counters": state.counters,
        "step": state.step,
        "metrics": lines(run.folder.metrics),
        "chosen": run.chosen_step,
    }


TRAINED = ("adapter", "optimizer", "average", "counters", "step")


@dataclass(frozen=True)
class Case:
    """One form of damage to one file."""

    file: str
    what: str
    damage: Callable[[Path], None]


def resumed(case: Case, cut: Path, whole: dict[str, Any], folder: Path) -> str:
    """Damage a copy of the run, and resume it: refused, warned, equal, or a word for what should not be."""
    shutil.copytree(cut, folder)
    run_folder = folder / "runs" / RUN
    case.damage(run_folder / case.file)
    before = contents(run_folder)
    heard = Hears()
    try:
        run = begin(folder, resume=RUN, heard=heard)
        drive(run)
        end = ends(run)
    except ConfigError as error:
        message = str(error)
        if len(message) > 500:
            return f"LONG ({len(message)})"
        if case.file.split(".")[0] not in message and "resume" not in message.split(":")[0]:
            return f"UNCLEAR ({message[:150]})"
        if contents(run_folder) != before:
            return f"CHANGED THE FOLDER ({message[:100]})"
        return "refused"
    except RecursionError:
        return "RAW RecursionError"
    except Exception as error:  # what the tests are about: no other error may come out
        return f"RAW {type(error).__name__} ({str(error)[:120]})"
    warned = [text for kind, *text in heard.said if kind == "warning" and "guard, step" not in text[0]]
    if not all(len(text) <= 520 for (text,) in warned):
        return "LONG warning"
    if not all(math.isfinite(value.sum()) for value in end["lora"].values()):
        return "NOT FINITE weights"
    equal = [key for key in TRAINED if not _equal(end[key], whole[key])]
    if equal:
        return f"{'warned, OTHER' if warned else 'SILENT, other'} {', '.join(equal)}"
    if not warned and (end["chosen"], end["metrics"]) != (whole["chosen"], whole["metrics"]):
        return "unnoticed"
    return "warned" if warned else "equal"


def _equal(one: Any, other: Any) -> bool:
    tensors = isinstance(one, dict) and any(isinstance(value, torch.Tensor) for value in one.values())
    return same(one, other) if tensors else one == other


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder that a refusal must leave alone."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.suffix != ".lock" and "tfevents" not in path.name
    }


# Forms of damage. Of a whole file:


def written(data: bytes) -> Callable[[Path], None]:
    return lambda path: [path.write_bytes(data), None][1]


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: [path.write_bytes(change(path.read_bytes())), None][1]


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def a_loop_of_links(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path)


def gone(path: Path) -> None:
    path.unlink(missing_ok=True)


def of_any_file(file: str) -> Iterator[Case]:
    """Forms of damage that need not know what the file is."""
    contents = {
        "empty": b"",
        "zeros": bytes(5000),
        "binary": bytes(range(256)) * 20,
        "10 MB of spaces": b" " * 10_000_000,
        "10 MB in a line": b'"' + b"x" * 10_000_000 + b'"',
        "deep JSON": DEEP.encode(),
        "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
        "a lone surrogate in UTF-8": b'{"step": 1, "a": "\xed\xa0\x80"}',
        "UTF-16": '{"step": 1}'.encode("utf-16"),
    }
    for what, data in contents.items():
        yield Case(file, what, written(data))
    for part in (1, 8, 9):
        yield Case(file, f"cut to {part} bytes", changed(lambda data, part=part: data[:part]))
    for part in (0.25, 0.5, 0.99):
        yield Case(file, f"cut to {part:.0%}", changed(lambda data, part=part: data[: int(len(data) * part)]))
    yield Case(file, "bytes at the end", changed(lambda data: data + b"\x00\xffmore"))
    yield Case(file, "twice", changed(lambda data: data + data))
    yield Case(file, "a folder in its place", a_folder)
    yield Case(file, "a link to itself", a_loop_of_links)


# Of a checkpoint:


def flipped(place: int, bit: int) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = place % len(data)
        return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

    return flip


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the JSON of a checkpoint's state, in the header; what change() returns takes its place."""

    def damage(data: bytes) -> bytes:
        header, tensors = header_of(data)
        state = json.loads(header["__metadata__"]["pave"])
        made = change(state)
        header["__metadata__"]["pave"] = made if isinstance(made, str) else json.dumps(made)
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        return len(text).to_bytes(8, "little") + text + tensors

    return changed(damage)


def set_in(path: tuple[Any, ...], value: Any) -> Callable[[Any], Any]:
    """The function that sets what is at `path` in a JSON value to `value`, or removes it (...)."""

    def change(state: Any) -> Any:
        state = copy.deepcopy(state)
        place = state
        for key in path[:-1]:
            place = place[key]
        if value is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return state

    return change


def places_in(state: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path in a JSON value."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ():
        yield (*at, key)
        yield from places_in(value, (*at, key))


def with_state(**new: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A checkpoint that is whole by every digest, with other values: written by the pack itself."""

    def damage(path: Path) -> None:
        state = load_checkpoint(path)
        save_checkpoint(path, replace(state, **{name: change(getattr(state, name)) for name, change in new.items()}))

    return damage


def _first(value: float | None = None, *, shape: tuple[int, ...] | None = None, name: str | None = None):
    """The function that changes the first tensor of a part."""

    def change(part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        made = {key: each.clone() for key, each in part.items()}
        first = next(key for key in made if made[key].ndim)
        if value is not None:
            made[first].view(-1)[0] = value
        if shape is not None:
            made[first] = torch.zeros(shape)
        if name is not None:
            made[name] = made.pop(first)
        return made

    return change


def of_a_checkpoint(file: str, count: int, seed: int) -> Iterator[Case]:
    """Forms of damage to a checkpoint: of its bytes, of its header's JSON, and states that are whole and wrong."""
    drawn = random.Random(seed)
    yield from of_any_file(file)
    for _ in range(count):
        place, bit = drawn.randrange(1 << 30), drawn.randrange(8)
        yield Case(file, f"bit {bit} of byte {place}", changed(flipped(place, bit)))
    for text in ("null", "[]", "1", '"text"', "{}", "", "{", DEEP, '{"step": 1}', "NaN", '"\\ud800"'):
        yield Case(file, f"state {text[:20]}", with_header(lambda state, text=text: text))
    for key in ("step", "counters", "recipe", "running"):
        for value in (*HOSTILE, ...):
            what = "missing" if value is ... else repr(value)[:20]
            yield Case(file, f"{key} = {what}", with_header(set_in((key,), value)))
    for counter in ("updates", "skipped", "halvings"):
        for value in HOSTILE:
            yield Case(file, f"{counter} = {repr(value)[:20]}", with_header(set_in(("counters", counter), value)))
    recipe = (
        [("config",), ("config", "rollout"), ("config", "rollout", "eta")] if file == CHECKPOINT else [("held_out",)]
    )
    for path in (("recipe", *rest) for rest in recipe):
        for value in (*HOSTILE, ...):
            what = "missing" if value is ... else repr(value)[:20]
            yield Case(file, f"{'.'.join(path)} = {what}", with_header(set_in(path, value)))
    wholes: dict[str, dict[str, Callable[[Any], Any]]] = {
        "adapter NaN": {"adapter": _first(math.nan)},
        "adapter inf": {"adapter": _first(math.inf)},
        "adapter of another shape": {"adapter": _first(shape=(1, 1))},
        "adapter without a layer": {"adapter": lambda part: dict(list(part.items())[2:])},
        "adapter of another name": {"adapter": _first(name="other.lora_A")},
        "no adapter": {"adapter": lambda part: {}},
        "moments missing": {"optimizer": lambda part: {}},
        "one moment missing": {"optimizer": lambda part: dict(list(part.items())[1:])},
        "moments NaN": {"optimizer": _first(math.nan)},
        "moments of another shape": {"optimizer": _first(shape=(1, 1))},
        "moment without a bar": {"optimizer": _first(name="nothing")},
        "moment of an unknown layer": {"optimizer": _first(name="nothing|exp_avg")},
        "unknown moment": {"optimizer": lambda part: part | {f"{next(iter(part)).split('|')[0]}|evil": torch.ones(1)}},
        "moment with two bars": {"optimizer": _first(name="a|b|c")},
        "average NaN": {"average": _first(math.nan)},
        "average missing": {"average": lambda part: {}},
        "average of another shape": {"average": _first(shape=(1, 1))},
        "average of an unknown layer": {"average": _first(name="nothing")},
        "step -5": {"step": lambda step: -5},
        "step 2.5": {"step": lambda step: 2.5},
        "step 10^18": {"step": lambda step: 10**18},
        "step true": {"step": lambda step: True},
        "counter -1": {"counters": lambda counters: counters | {"updates": -1}},
        "counter 10^18": {"counters": lambda counters: counters | {"halvings": 10**18}},
    }
    for what, new in wholes.items():
        yield Case(file, f"whole, {what}", with_state(**new))
    yield Case(
        file, "a LoRA", lambda path: [shutil.copy(path.parents[2] / "loras" / f"{RUN}.safetensors", path), None][1]
    )
    yield Case(file, "tensors of another program", lambda path: save_file({"a": torch.ones(1)}, path))


# Of reports:


def with_record(path: tuple[Any, ...], value: Any, line: int) -> Callable[[Path], None]:
    """Set a value in one record of a .jsonl file, or of a list in a .json file."""

    def damage(file: Path) -> None:
        if file.suffix == ".json":
            records = json.loads(file.read_text("utf-8"))
            records[line] = set_in(path, value)(records[line])
            file.write_text(json.dumps(records), "utf-8")
        else:
            records = [json.loads(each) for each in file.read_text("utf-8").splitlines()]
            records[line] = set_in(path, value)(records[line])
            file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")

    return damage


def of_a_report(file: str, cut: Path, values: tuple[Any, ...]) -> Iterator[Case]:
    """Forms of damage to a report: of its bytes, its lines, and each key of a record."""
    yield from of_any_file(file)
    yield Case(file, "gone", gone)
    for text in ("[1]", "{}", "null", "[null]", '{"step": 1}', '[{"step": 1}]', "1e999", "NaN", '[["step"]]'):
        yield Case(file, text, written(text.encode()))
    yield Case(file, "CRLF", changed(lambda data: data.replace(b"\n", b"\r\n")))
    yield Case(file, "with a BOM", changed(lambda data: b"\xef\xbb\xbf" + data))
    yield Case(file, "last line torn", changed(lambda data: data[:-15]))
    yield Case(
        file,
        "a line torn in the middle",
        changed(lambda data: data[: len(data) // 3] + b"\n" + data[len(data) // 3 + 9 :]),
    )
    yield Case(file, "first line missing", changed(lambda data: data.split(b"\n", 1)[1]))
    path = cut / "runs" / RUN / file
    text = path.read_text("utf-8")
    record = json.loads(text)[1] if path.suffix == ".json" else json.loads(text.splitlines()[1])
    for key in places_in(record):
        for value in values:
            what = "missing" if value is ... else repr(value)[:20]
            yield Case(file, f"{key} = {what}", with_record(key, value, 1))
    yield Case(file, "an unknown key", with_record(("evil",), 1, 1))


CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
REPORTS = ("metrics.jsonl", "evaluations.json", "guard.jsonl")
GOOD = {
    CHECKPOINT: {"refused", "warned", "equal"},
    BEST: {"refused", "warned", "equal"},
    **{key: {"warned", "equal", "unnoticed"} for key in REPORTS},
}
"""What may come of damage to a file. A report never refuses: the run goes on."""


def tell(cases: list[Case], cut: Path, whole: dict[str, Any], tmp_path: Path, title: str, good: set[str]) -> None:
    """Try every case, print what came of them, and fail for those that are not good."""
    outcomes = {}
    for number, case in enumerate(cases):
        folder = tmp_path / f"case{number}"
        outcomes[case.file, case.what] = resumed(case, cut, whole, folder)
        shutil.rmtree(folder)
    counts = Counter(re.sub(r" \(.*", "", outcome) for outcome in outcomes.values())
    table(f"{title}: {len(cases)} forms", sorted(counts.items()))
    bad = [(*case, outcome) for case, outcome in outcomes.items() if outcome not in good]
    table(f"{title}: not good", bad) if bad else None
    assert not bad, f"{len(bad)} of {len(cases)}: {bad[:5]}"


def first_of_each(cases: Iterator[Case], every: int) -> list[Case]:
    """Every n-th case, for the short form."""
    return list(cases)[::every]


@pytest.mark.parametrize("file", [CHECKPOINT, BEST])
@pytest.mark.usefixtures("undrawn")
def test_a_damaged_checkpoint_is_refused_or_its_predecessor_used(cut, whole, tmp_path, file):
    cases = first_of_each(of_a_checkpoint(file, count=12, seed=5), every=7)
    tell(cases, cut, whole, tmp_path, file, GOOD[file])


@pytest.mark.parametrize("file", REPORTS)
def test_a_damaged_report_never_ends_a_run(cut, whole, tmp_path, file):
    cases = first_of_each(of_a_report(file, cut, (None, "text", 2.5, ...)), every=9)
    tell(cases, cut, whole, tmp_path, file, GOOD[file])


def without_a_predecessor(cut: Path, folder: Path) -> Path:
    """A copy of the cut run that has no previous checkpoint."""
    shutil.copytree(cut, folder)
    for path in (folder / "runs" / RUN).glob("*.previous.safetensors"):
        path.unlink()
    return folder


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_checkpoint_without_a_predecessor_is_refused(cut, whole, tmp_path):
    alone = without_a_predecessor(cut, tmp_path / "alone")
    cases = first_of_each(of_a_checkpoint(CHECKPOINT, count=12, seed=6), every=8)
    # A state that is written anew by the pack itself has the one before it as a predecessor.
    tell(cases, alone, whole, tmp_path, "checkpoint without a predecessor", {"refused", "equal", "warned"})


@pytest.mark.long
@pytest.mark.parametrize("file", [CHECKPOINT, BEST])
@pytest.mark.usefixtures("undrawn")
def test_every_damage_of_a_checkpoint(cut, whole, tmp_path, file):
    tell(list(of_a_checkpoint(file, count=200, seed=7)), cut, whole, tmp_path, file, GOOD[file])


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_every_damage_of_a_checkpoint_without_a_predecessor(cut, whole, tmp_path):
    alone = without_a_predecessor(cut, tmp_path / "alone")
    cases = list(of_a_checkpoint(CHECKPOINT, count=200, seed=8))
    # A state that is written anew by the pack itself has the one before it as a predecessor.
    tell(cases, alone, whole, tmp_path, "checkpoint without a predecessor", {"refused", "equal", "warned"})


@pytest.mark.long
@pytest.mark.parametrize("file", REPORTS)
def test_every_damage_of_a_report(cut, whole, tmp_path, file):
    tell(list(of_a_report(file, cut, (*HOSTILE, ...))), cut, whole, tmp_path, file, GOOD[file])


def test_a_damaged_report_is_set_aside(cut, tmp_path):
    """What could not be read is kept under another name, and a new file takes its place."""
    for file in REPORTS:
        folder = tmp_path / file
        shutil.copytree(cut, folder)
        damaged = folder / "runs" / RUN / file
        damaged.write_bytes(b"\xff\xfe not a report")
        heard = Hears()
        run = begin(folder, resume=RUN, heard=heard)
        drive(run)
        run.finish()
        assert damaged.with_name(f"{file}.unreadable").read_bytes() == b"\xff\xfe not a report"
        assert any(file in text for kind, *texts in heard.said if kind == "warning" for text in texts)
        assert damaged.read_bytes()[:1] in (b"{", b"[")


def test_a_predecessor_is_used_and_the_loss_is_said(cut, whole, tmp_path):
    """The newest checkpoint is damaged: the run goes on from the one before it, and ends as if it never was."""
    shutil.copytree(cut, tmp_path / "run")
    folder = tmp_path / "run" / "runs" / RUN
    previous = load_checkpoint(folder / "checkpoint.previous.safetensors")
    assert previous.step < CUT
    for damage in (gone, written(b"")):
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(cut, tmp_path / "run")
        damage(folder / CHECKPOINT)
        heard = Hears()
        run = begin(tmp_path / "run", resume=RUN, heard=heard)
        assert run.state.step == previous.step
        assert any("previous" in text for kind, *texts in heard.said if kind == "warning" for text in texts)
        drive(run)
        end = ends(run)
        assert all(_equal(end[key], whole[key]) for key in (*TRAINED, "metrics", "lora", "chosen"))
    assert load_file(tmp_path / "run" / "loras" / f"{RUN}.safetensors").keys() == whole["lora"].keys()
