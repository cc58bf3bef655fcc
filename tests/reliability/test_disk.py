"""A disk that is full, read-only or in use, and folders that go away, in every phase of a run.

Of every case: what is on disk afterwards is true to the message, the run goes on where it can, and when the disk is
well again the run ends bit for bit as one that nothing befell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from _faulty_server import FaultyServer
from _forked_host import End, ForkedHost, forked_host  # noqa: F401
from _small_runs import RUN, STEPS, differences, header, left, lora_of, small, step_of, table

pytestmark = pytest.mark.slow
SHORT = ("first save", "best of the guard")
"""The phases of the short form."""
ERRORS = ("ENOSPC", "EROFS", "EACCES", "EIO")
WRITES = "^(open|write|fsync|replace|mkdir) "
ANY = WRITES + ".*"
LORA = WRITES + "loras/"
CHECKPOINT = WRITES + ".*/checkpoint[^/]*$"
BEST = WRITES + ".*/best[^/]*$"
REPORTS = WRITES + ".*(jsonl|evaluations.json|summary.json|tfevents|png)"


def failing(match: str, error: str, **more: Any) -> dict[str, Any]:
    """A rule: everything that matches fails from now on."""
    return {"match": match, "do": error, "times": None} | more


@pytest.fixture(scope="module")
def whole(forked_host: ForkedHost, tmp_path_factory):  # noqa: F811
    """whole(kind) -> what a run that nothing befalls leaves."""
    made: dict[str, dict[str, Any]] = {}

    def of(kind: str) -> dict[str, Any]:
        if kind not in made:
            output = tmp_path_factory.mktemp("whole") / kind
            end = forked_host.run(output, small(kind), show="end")
            assert end.done, end.log[-3000:]
            made[kind] = left(output)
        return made[kind]

    return of


def messages(end: End) -> list[str]:
    """Our lines of the log."""
    return re.findall(r"^(?:INFO|WARNING|ERROR) (Pave-GRPO (?!step).*)$", end.log, re.MULTILINE)


def warnings(end: End) -> list[str]:
    return re.findall(r"^WARNING (Pave-GRPO .*)$", end.log, re.MULTILINE)


def check_words(end: End) -> None:
    """No raw error, and no endless message."""
    assert end.kind in ("", "interrupted") or end.kind.endswith(("ConfigError", "TrainingError")), (
        f"raw {end.kind}: {end.message}"
    )
    for text in (end.message, *messages(end)):
        assert len(text) <= 520, text


def check_named_files(end: End) -> None:
    """Every file that a message says is there is there, and whole."""
    for text in (end.message, *messages(end)):
        for path in re.findall(r"(?:LoRA so far in|LoRA is in|LoRA in|checkpoint in) ([^,;]+\.safetensors)", text):
            assert Path(path).is_file(), f"{text}: there is no such file"
            load_file(path)


def safe_loras(*folders: Path) -> list[Path]:
    """LoRA files below some folders."""
    return [
        file
        for folder in folders
        for file in folder.rglob("*.safetensors")
        if "checkpoint" not in file.name and not file.name.startswith("best")
    ]


def go_on(host: ForkedHost, output: Path, temp: Path, kind: str = "plain", run: str = RUN) -> str:
    """The disk is well: resume the run as its messages say, or begin it anew where it left no checkpoint; its name.

    A checkpoint that went to the folder for temporary files is moved to its place.
    """
    for spare in temp.rglob("*.checkpoint.safetensors"):
        (output / "pave" / run).mkdir(parents=True, exist_ok=True)
        shutil.move(spare, output / "pave" / run / "checkpoint.safetensors")
    done = step_of(output, run)
    resumed = {} if done is None else {"resume": run, "iterations": STEPS - done if kind == "drawn" else STEPS}
    end = host.run(output, small(kind, **resumed), show="end")
    assert end.done, end.message
    return run if done is not None else max(path.name for path in (output / "pave").glob("small_*"))


# Where the disk fails, in the order of a run: (phase, kind of run, the rule without its error, what holds afterwards).
# Step 4 is the third save (after steps 1, 2, 4, 6, 8).
PHASES = {
    "begin": ("plain", {"match": ANY}),
    "first save": ("plain", {"match": f"({LORA})|({CHECKPOINT})"}),
    "later save": ("plain", {"match": CHECKPOINT, "skip": 9}),
    "later LoRA": ("plain", {"match": LORA, "skip": 9}),
    "everything from step 3": ("plain", {"match": ANY, "skip": 60}),
    "best of the guard": ("guarded", {"match": BEST}),
    "final save": ("plain", {"match": f"({LORA})|({CHECKPOINT})", "skip": 40}),
    "reports": ("guarded", {"match": REPORTS}),
    "summary": ("plain", {"match": WRITES + ".*summary.json"}),
    "pictures": ("plain", {"match": WRITES + ".*png"}),
    "drawn, from the first save": ("drawn", {"match": f"({LORA})|({CHECKPOINT})"}),
    "drawn, reports": ("drawn", {"match": REPORTS}),
}
ONLY_BEGIN = ("begin",)
WITHOUT_REPORTS = ("everything from step 3", "reports", "drawn, reports")
"""Phases in which reports are lost: those of the steps that were made meanwhile are not to be had again."""
LEARNT = ("checkpoint", "state", "lora", "recipe")


def befallen(host: ForkedHost, output: Path, phase: str, error: str, whole: Any) -> tuple[str, ...]:
    """Run a phase's case with this error, check what is left, go on; a row of the table."""
    kind, rule = PHASES[phase]
    temp = output.parent / f"{output.name}.temp"
    temp.mkdir()
    end = host.run(output, small(kind), failing(error=error, **rule), show="end", temp=temp)
    assert end.faults, "the disk never failed"
    check_words(end)
    check_named_files(end)
    if phase in ONLY_BEGIN:
        assert end.kind.endswith("ConfigError"), f"{end.kind}: {end.message}"
        assert re.match(r"\w+: ", end.message), end.message
        said = "refused"
    else:
        # The run goes on: all steps are made, the graph behind it runs, and a LoRA of the last step is on disk.
        assert end.done, f"{end.kind}: {end.message}"
        assert warnings(end), "no warning"
        said = "went on"
        loras = safe_loras(output, temp)
        assert loras, "no LoRA anywhere"
        chosen = whole(kind)["recipe"]["step"]
        steps = {file: header(file, "pave_recipe")["step"] for file in loras}
        newest = max(steps, key=lambda file: steps[file])
        assert steps[newest] == chosen, f"the newest LoRA is of step {steps[newest]}, not {chosen}"
        assert differences({"lora": load_file(newest)}, {"lora": whole(kind)["lora"]}) == [], "another LoRA"
        if newest != lora_of(output):
            assert any(str(newest) in text for text in messages(end)), "no message says where the LoRA is"
            said += f", LoRA in {newest.parent.name}/"
    run = go_on(host, output, temp, kind)
    compared = LEARNT if phase in WITHOUT_REPORTS else tuple(whole(kind))
    now = left(output, run)
    assert differences({key: whole(kind)[key] for key in compared}, now) == []
    assert [file.name for file in output.rglob("*.part") if run in str(file)] == []
    return phase, error, said, "then equal"


@pytest.mark.parametrize(
    "phase",
    [phase if phase in SHORT else pytest.param(phase, marks=pytest.mark.long) for phase in PHASES],
)
def test_a_full_disk_costs_nothing_that_can_be_kept(forked_host, whole, tmp_path, phase):  # noqa: F811
    table("disk full", [befallen(forked_host, tmp_path / "run", phase, "ENOSPC", whole)])


@pytest.mark.long
@pytest.mark.parametrize("error", ERRORS[1:])
def test_every_other_error_of_a_disk_costs_no_more(forked_host, whole, tmp_path, error):  # noqa: F811
    rows, wrong = [], []
    for number, phase in enumerate(PHASES):
        try:
            rows.append(befallen(forked_host, tmp_path / f"run{number}", phase, error, whole))
        except Exception as problem:
            wrong.append((phase, error, "WRONG", str(problem).splitlines()[0][:300]))
    table(f"{error}: {len(rows) + len(wrong)} cases", rows + wrong)
    assert not wrong


@pytest.mark.parametrize("file", ["lora", "checkpoint", "both"])
def test_a_file_that_another_program_holds_open_does_not_end_the_run(forked_host, whole, tmp_path, file):  # noqa: F811
    """On Windows the move onto a file that is open elsewhere fails: PermissionError."""
    place = {"lora": "loras/pave/small_00001.safetensors$", "checkpoint": "pave/small_00001/checkpoint.safetensors$"}
    match = {name: f"^replace {path}" for name, path in place.items()}
    match["both"] = "|".join(match.values())
    output, temp = tmp_path / "run", tmp_path / "temp"
    temp.mkdir()
    end = forked_host.run(output, small("plain"), failing(match[file], "EACCES"), show="end", temp=temp)
    assert end.done, end.message
    check_words(end)
    check_named_files(end)
    assert warnings(end)
    beside = safe_loras(output, temp)
    assert any(differences({"lora": load_file(path)}, {"lora": whole("plain")["lora"]}) == [] for path in beside), (
        "no LoRA of the last step"
    )
    assert differences(whole("plain"), left(output, go_on(forked_host, output, temp))) == []
    table("in use", [(file, len(end.faults), [str(path.relative_to(tmp_path)) for path in beside])])


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("plain", "vanish"),
        ("guarded", "rename"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("plain", "rename"), ("guarded", "vanish"), ("drawn", "vanish"), ("drawn", "rename"))
        ),
    ],
)
def test_a_run_folder_that_goes_away_is_made_again(forked_host, whole, tmp_path, what, kind):  # noqa: F811
    """Deleted or renamed in step 4: the run goes on, and its metrics are whole."""
    output = tmp_path / "run"
    rule = {"match": "phase rollout", "skip": 3, "do": what}
    end = forked_host.run(output, small(kind), rule, show="end")
    assert end.faults
    assert end.done, end.message
    check_words(end)
    assert any("small_00001" in text for text in warnings(end)), "no warning about the folder"
    now = left(output)
    assert differences(whole(kind), now) == []
    table("folder gone", [(kind, what, f"{len(now['metrics'])} lines of metrics", *warnings(end)[:1])])


@pytest.mark.parametrize("kind", ["plain", "drawn"])
def test_an_error_of_saving_does_not_hide_what_ended_the_run(forked_host, tmp_path, kind):  # noqa: F811
    """The scoring fails in step 4 on a full disk: the error is that of the scoring, and the LoRA is somewhere."""
    output, temp = tmp_path / "run", tmp_path / "temp"
    temp.mkdir()
    fails = {"match": "phase update", "skip": 3, "do": "EHOSTDOWN"}
    full = failing(f"({LORA})|({CHECKPOINT})", "ENOSPC", skip=0)
    end = forked_host.run(output, small(kind), full, fails, show="end", temp=temp)
    assert "Host is down" in end.message
    check_named_files(end)
    assert [header(file, "pave_recipe")["step"] for file in safe_loras(output, temp)][-1:] == [3]
    ended = messages(end)[-1]
    assert "after step 3" in ended, ended
    assert len(ended) <= 520
    table("the error, and the last message", [(end.message.splitlines()[0], ended)])


def test_what_no_disk_took_is_written_by_the_next_run(comfyui, root, tmp_path, whole, monkeypatch):
    """Cancelled in step 4 while no disk takes anything, not even the folder for temporary files: nothing is lost."""
    temp = tmp_path / "output" / "temp"  # so that it is full as well
    temp.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temp))
    with FaultyServer(comfyui, root, tmp_path) as server, server.client() as client:
        server.faults.set({"match": "phase update", "skip": 3, "do": "hold"})
        prompt = client.queue(small("plain", every=1000))
        server.wait_for("  hold")
        for file in [*server.output.rglob("*.safetensors")]:
            file.unlink()  # those of step 1: nothing is left of the run
        server.faults.set(failing(ANY, "ENOSPC"))
        client.interrupt()
        list(client.events(prompt, timeout=120))
        assert re.findall("memory keeps LoRA and checkpoint", server.said())
        assert [*server.output.rglob("*.safetensors")] == []
        server.faults.set()
        client.run(small("plain", name="other", iterations=1), timeout=300)
        assert header(lora_of(server.output), "pave_recipe")["step"] == 3
        client.run(small("plain", resume=RUN, every=1000), timeout=300)
        assert differences({key: whole("plain")[key] for key in ("lora", "checkpoint")}, left(server.output)) == []
        table("no disk at all", [(line,) for line in re.findall(r"Pave-GRPO .*(?:cancelled|before).*", server.said())])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root mounts a small disk on Linux")
def test_a_small_disk_that_fills_up(comfyui, root, tmp_path, whole, monkeypatch):
    """A real disk of 600 kB through the real server: filled before the first save, and freed later."""
    base = tmp_path / "server"
    disk = base / "output"
    disk.mkdir(parents=True)
    (tmp_path / "spare").mkdir()  # not "temp", which the host empties
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spare"))  # the server's
    mounted = subprocess.run(
        [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        _fill_and_free(FaultyServer(comfyui, root, base, "--temp-directory", str(tmp_path)), disk, tmp_path, whole)
    finally:
        subprocess.run([shutil.which("umount") or "umount", "-l", str(disk)], check=True)


def _fill_and_free(server: FaultyServer, disk: Path, tmp_path: Path, whole: Any) -> None:
    with server, server.client() as client:
        server.faults.set({"match": "phase rollout", "skip": 2, "do": "hold"})
        prompt = client.queue(small("plain"))
        server.wait_for("hold")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096):
                    file.flush()
            except OSError as full:
                print(full)
        server.faults.set()
        errors = [event.data for event in client.events(prompt, timeout=300) if event.kind == "execution_error"]
        said = re.findall(r"Pave-GRPO (?!step).*", server.said())
        saved = load_file(tmp_path / "spare" / "pave-grpo" / f"{RUN}.safetensors")
        assert differences({"lora": saved}, {"lora": whole("plain")["lora"]}) == []
        filler.unlink()
        done = step_of(disk)
        client.run(small("plain", **({} if done is None else {"resume": RUN})), timeout=300)
        assert differences(whole("plain"), left(disk, RUN if done is not None else "small_00002")) == []
        table("a disk of 600 kB, full from step 3", [(line,) for line in said])
        assert not errors, errors[0]["exception_message"]
