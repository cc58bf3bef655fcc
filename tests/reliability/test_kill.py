"""SIGKILL beside and inside every write and rename of a run: resumed, it is the run that was never killed.

A run without faults tells what it writes and moves; then each of these moments kills a run of its own.
"""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file

from _faulty_server import FaultyServer
from _forked_host import ForkedHost, forked_host  # noqa: F401
from _small_runs import KINDS, RUN, STEPS, differences, header, left, lora_of, small, step_of, table

pytestmark = pytest.mark.slow
FILES = "^(?!phase)(?!.*tfevents)"
"""What is counted: files, without TensorBoard's, which a thread of its own writes."""
SHORT = (
    ("plain", "write .*checkpoint.safetensors", 2, "half"),
    ("plain", "replace .*/checkpoint.safetensors$", 3, "before"),
    ("plain", "replace .*/checkpoint.safetensors$", 0, "after"),
    ("plain", "replace loras/", -1, "before"),
    ("guarded", "replace .*/best.safetensors$", 1, "after"),
    ("drawn", "write .*metrics.jsonl", 4, "half"),
)
"""The moments of the short form: kind of run, event, which of these events (-1: the last), when."""
OVER_HTTP = (*SHORT, *((kind, event, which, when) for kind in ("plain", "guarded") for event, which, when in (
    ("write loras/", 1, "half"),
    ("replace .*evaluations.json$", -1, "before"),
    ("replace .*summary.json$", 0, "before"),
)))  # fmt: skip


def plainly(event: str) -> str:
    """An event without the name of a temporary file, and without the number of the run."""
    return re.sub(r"(\.(?:safetensors|json|jsonl|png|jpg))\..*", r"\1.part", event.replace(RUN, "<run>"))


def counted(events: list[str]) -> list[str]:
    """What the kills are counted in."""
    return [plainly(event) for event in events if re.search(FILES, event)]


def moments(events: list[str]) -> list[tuple[int, str, str]]:
    """(number of the event, event, when) of every state that a kill can leave the files in.

    After an event they are as before the next one; a picture is written in many pieces, of which the first stands for
    all.
    """
    found = []
    for number, event in enumerate(events):
        if event.startswith("write") and number and events[number - 1] == event:
            continue
        found.append((number, event, "before"))
        if event.startswith("write"):
            found.append((number, event, "half"))
        if event.startswith("replace"):
            found.append((number, event, "after"))
    return found


def one_of_each(events: list[str], seed: int) -> list[tuple[int, str, str]]:
    """One moment for each (event, when), drawn among the times that it comes."""
    drawn = random.Random(seed)
    by_kind: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for moment in moments(events):
        by_kind.setdefault(moment[1:], []).append(moment)
    return [drawn.choice(alike) for alike in by_kind.values()]


@pytest.fixture(scope="module")
def whole(forked_host: ForkedHost, tmp_path_factory):  # noqa: F811
    """whole(kind) -> (the output folder of a run that nothing befalls, its events, its seconds)."""
    made = {}

    def of(kind: str):
        if kind not in made:
            output = tmp_path_factory.mktemp("whole") / kind
            end = forked_host.run(output, small(kind), show="end")
            assert end.done, end.log[-3000:]
            made[kind] = output, counted(end.events), end.seconds
        return made[kind]

    return of


def after_the_kill(output: Path, run: str = RUN) -> int | None:
    """The step that can be resumed from; where there is one, the LoRA is there, whole, and no older."""
    done = step_of(output, run)
    if done is not None:
        assert lora_of(output, run).is_file(), f"a checkpoint of step {done} without a LoRA"
        step = header(lora_of(output, run), "pave_recipe")["step"]
        assert load_file(lora_of(output, run))
        guarded = (output / "pave" / run / "best.safetensors").is_file()  # then the LoRA is of the best step
        assert guarded or step >= done, f"the LoRA is of step {step}, the checkpoint of {done}"
    return done


def again(kind: str, done: int | None, name: str = "small"):
    """The graph that goes on with a killed run, or begins anew where it left no checkpoint."""
    if done is None:
        return small(kind, name=name)
    return small(kind, name=name, resume=f"{name}_00001", iterations=STEPS - done if kind == "drawn" else STEPS)


def newest(output: Path, name: str = "small") -> str:
    """The last run of this name."""
    return max(path.name for path in (output / "pave").glob(f"{name}_*"))


def leftovers(output: Path, run: str) -> list[str]:
    """Temporary files of a run that are still there."""
    return [path.name for path in output.rglob("*.part") if run in str(path)]


def kill_and_resume(host: ForkedHost, output: Path, kind: str, reference: Path, **how) -> str:
    """Kill a run, go on with it, and compare: "resumed" or "begun anew". rule= or kill_after=."""
    rules = [how["rule"]] if "rule" in how else []
    first = host.run(output, small(kind), *rules, show="end", kill_after=how.get("kill_after"))
    if not first.killed:
        assert "kill_after" in how, f"it lived: {first.faults}, {first.message}"
        return "too late"
    done = after_the_kill(output)
    second = host.run(output, again(kind, done), show="end")
    assert second.done, f"after {first.faults} at step {done}: {second.message}"
    run = newest(output)
    assert done is None or run == RUN
    assert differences(left(reference), left(output, run)) == [], f"after {first.faults} at step {done}"
    assert leftovers(output, run) == []
    return "begun anew" if done is None else f"resumed at {done}"


def number_of(events: list[str], event: str, which: int) -> int:
    """The number of an event among all of them."""
    return [number for number, each in enumerate(events) if re.search(event, each)][which]


def test_a_run_killed_in_a_save_is_the_run_that_was_not(forked_host, whole, tmp_path):  # noqa: F811
    rows = []
    for case, (kind, event, which, when) in enumerate(SHORT):
        reference, events, _ = whole(kind)
        number = number_of(events, event, which)
        rule = {"match": FILES, "skip": number, "do": "kill", "when": when}
        end = kill_and_resume(forked_host, tmp_path / f"case{case}", kind, reference, rule=rule)
        rows.append((kind, f"{when} {events[number]}", end))
    table(f"{len(rows)} kills, all equal to the run that was not killed", rows)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_anywhere_is_the_run_that_was_not(forked_host, whole, tmp_path, kind):  # noqa: F811
    """Every event of a run once, before it, in it and after it, and random times."""
    reference, events, seconds = whole(kind)
    drawn = random.Random(7)
    cases = [
        (f"{when} {event}", {"rule": {"match": FILES, "skip": number, "do": "kill", "when": when}})
        for number, event, when in one_of_each(events, seed=11)
    ]
    cases += [(f"{after:.2f} s", {"kill_after": after}) for after in (drawn.uniform(0.3, seconds) for _ in range(10))]
    ends = []
    print(f"\n{kind}: {len(events)} events, {len(cases)} kills")
    for case, (where, how) in enumerate(cases):
        try:
            end = kill_and_resume(forked_host, tmp_path / f"case{case}", kind, reference, **how)
        except Exception as error:
            end = f"WRONG: {str(error).splitlines()[0][:300]}"
        ends.append(re.sub(" at .*", "", end))
        print(f"  {where} | {end}", flush=True)  # at once: the whole takes minutes
    table(f"{kind}, counted", sorted(Counter(ends).items()))
    assert not any(end.startswith("WRONG") for end in ends)
    assert len(ends) >= 30


@pytest.mark.long
def test_a_server_killed_in_a_save_goes_on_when_it_is_started_again(comfyui, root, tmp_path, whole):
    """The same through the real server: killed inside or beside a save, started again, resumed over HTTP."""
    rows = []
    with FaultyServer(comfyui, root, tmp_path) as server:
        for case, (kind, event, which, when) in enumerate(OVER_HTTP):
            reference, events, _ = whole(kind)
            number = number_of(events, event, which)
            # Counted among its like: a server whose folders are there already makes fewer of the other events.
            skip = sum(bool(re.search(event, each)) for each in events[:number])
            name = f"case{case}"
            server.faults.set({"match": event, "skip": skip, "do": "kill", "when": when})
            server.queue(small(kind, name=name))
            assert server.wait_for_its_end() == -signal.SIGKILL, server.said()[-2000:]
            server.faults.set()
            done = after_the_kill(server.output, f"{name}_00001")
            server.start()
            with server.client() as client:
                client.run(again(kind, done, name), timeout=300)
            run = newest(server.output, name)
            assert differences(left(reference), left(server.output, run)) == [], events[number]
            assert leftovers(server.output, run) == []
            rows.append((kind, f"{when} {events[number]}", "begun anew" if done is None else f"resumed at {done}"))
    table(f"{len(rows)} kills of a real server, all equal to the run that was not killed", rows)
