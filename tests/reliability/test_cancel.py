"""Cancel in every phase of a run: how long it takes, what is kept, what is said, and that nothing is trained again.

The run is held at the beginning of a phase, Cancel is pressed over HTTP, and the phase goes on: what is measured is
what a user waits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from _faulty_server import FaultyServer
from _small_runs import STEPS, differences, header, left, lines, lora_of, small, step_of, table

pytestmark = pytest.mark.slow
LONGEST = 5.0
"""Seconds that Cancel may take on a busy machine; a phase of this run takes tenths."""
PHASES = {
    "encoding": ("phase encoding", 1, 0),
    "reward check": ("phase reward check", 0, 0),
    "gradient check": ("phase gradient check", 0, 0),
    "first evaluation": ("phase evaluation", 0, 0),
    "rollout": ("phase rollout", 4, 4),
    "decoding": ("phase decoding", 4, 4),
    "scoring": ("phase scoring", 6, None),
    "gradient": ("phase update", 4, 4),
    "optimizer": ("phase optimizer", 4, 5),
    "metrics": ("^write .*metrics.jsonl", 3, 4),
    "LoRA": ("^write loras/", 2, None),
    "checkpoint": ("^write .*/checkpoint", 2, None),
    "between two saves": ("phase rollout", 6, 6),
}
"""{phase: (the event that it begins with, how many of them pass, the complete steps then: None: not asked)}."""
AT_THE_END = {
    "final evaluation": ("phase evaluation", 1),
    "final LoRA": ("^write loras/", 4),
    "curve": ("phase curve", 0),
    "grid": ("phase grid", 0),
    "picture": ("^write .*png", 0),
    "summary": ("^write .*summary.json", 0),
}
OF_A_GUARD = {"guard reading": ("phase guard reading", 1), "best": ("^write .*/best", 1)}
SHORT = ("encoding", "first evaluation", "gradient", "checkpoint")


@pytest.fixture(scope="module")
def server(comfyui: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    """A server with faults. It hides the shared one, so that these tests are not marked for it."""
    with FaultyServer(comfyui, root, tmp_path_factory.mktemp("cancel")) as running:
        yield running


@pytest.fixture(scope="module")
def whole(server):
    """whole(kind) -> what an uninterrupted run leaves."""
    made: dict[str, dict[str, Any]] = {}

    def of(kind: str) -> dict[str, Any]:
        if kind not in made:
            name = f"whole_{kind}"
            with server.client() as client:
                client.run(small(kind, name=name), timeout=300)
            made[kind] = left(server.output, f"{name}_00001")
        return made[kind]

    return of


def cancel(server: FaultyServer, graph: dict[str, Any], event: str, which: int) -> tuple[float, str, list[str]]:
    """Cancel when the event of this number begins: (seconds, how the prompt ended, what we said since)."""
    server.faults.forget()
    server.faults.set({"match": event, "skip": which, "do": "hold"})
    with server.client() as client:
        prompt = client.queue(graph)
        server.wait_for("  hold")
        before = len(server.said())
        client.interrupt()
        released = time.monotonic()
        server.faults.set()
        kinds = [each.kind for each in client.events(prompt, timeout=120)]
    seconds = time.monotonic() - released
    ends = ("execution_interrupted", "execution_error", "execution_success")
    end = next(kind for kind in kinds if kind in ends)
    return seconds, end, re.findall(r"Pave-GRPO (?!step).*", server.said()[before:])


def resumed(server: FaultyServer, kind: str, name: str) -> dict[str, Any]:
    """What is left when the run of this name has gone on to its end."""
    run = f"{name}_00001"
    done = step_of(server.output, run)
    assert done is not None
    rest = STEPS - done if kind == "drawn" else STEPS
    with server.client() as client:
        client.run(small(kind, name=name, resume=run, iterations=rest), timeout=300)
    return left(server.output, run)


def cancelled_in_steps(server: FaultyServer, whole: Any, kind: str, phase: str) -> tuple[Any, ...]:
    """Cancel in a phase before the last step, check what is kept, go on; a row of the table."""
    event, which, complete = PHASES[phase]
    name = f"{kind}_{phase.replace(' ', '_')}"
    run, folder = f"{name}_00001", server.output / "pave" / f"{name}_00001"
    seconds, end, said = cancel(server, small(kind, name=name), event, which)
    assert end == "execution_interrupted"
    assert seconds < LONGEST
    done = step_of(server.output, run)
    if complete is not None:
        assert (done or 0) == complete, f"{done} steps are kept, {complete} were complete"
    if done is None:
        assert not folder.exists(), "a folder of a run without a step"
        assert not lora_of(server.output, run).exists()
        with server.client() as client:
            client.run(small(kind, name=name), timeout=300)
        assert differences(whole(kind), left(server.output, run)) == []
        return kind, phase, f"{seconds:.2f} s", "nothing to keep", "next Run equal"
    # The message is true: this step, this LoRA, this checkpoint, and this way to go on.
    last = next(text for text in reversed(said) if "after step" in text)
    assert f"after step {done}" in last
    assert str(lora_of(server.output, run)) in last
    assert repr(run) in last or run in last
    assert len(last) <= 520
    assert header(lora_of(server.output, run), "pave_recipe")["step"] == done
    assert load_file(lora_of(server.output, run))
    assert [record["step"] for record in lines(folder / "metrics.jsonl")] == list(range(1, done + 1))
    assert not list(folder.glob("*.part"))
    assert differences(whole(kind), resumed(server, kind, name)) == []
    return kind, phase, f"{seconds:.2f} s", f"kept step {done}", "resumed equal"


def cancelled_at_the_end(server: FaultyServer, whole: Any, kind: str, phase: str, event: str, which: int):
    """Cancel after the last step: what is left can be finished, and no step is trained again."""
    name = f"{kind}_{phase.replace(' ', '_')}"
    run = f"{name}_00001"
    seconds, end, said = cancel(server, small(kind, name=name), event, which)
    assert seconds < LONGEST
    row = (kind, phase, f"{seconds:.2f} s", end.removeprefix("execution_"))
    if end == "execution_success":  # nothing of it was long enough to look for Cancel
        assert differences(whole(kind), left(server.output, run)) == []
        return *row, "complete"
    assert end == "execution_interrupted"
    assert step_of(server.output, run) == STEPS
    if not said:  # the run ended before anything looked for Cancel, which met a node behind it
        assert differences(whole(kind), left(server.output, run)) == []
        return *row, "complete"
    assert any(f"after step {STEPS}" in text and run in text for text in said), said
    server.faults.forget()
    now = resumed(server, kind, name)
    assert "phase rollout" not in server.faults.events(), "a finished run was trained again"
    assert differences(whole(kind), now) == []
    return *row, "finished without training"


@pytest.mark.parametrize("phase", SHORT)
def test_cancel_keeps_every_complete_step(server, whole, phase):
    table("Cancel", [cancelled_in_steps(server, whole, "plain", phase)])


def test_cancel_in_the_final_evaluation_can_be_finished_without_training(server, whole):
    phase = "final evaluation"
    table("Cancel", [cancelled_at_the_end(server, whole, "plain", phase, *AT_THE_END[phase])])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "drawn"])
def test_cancel_in_every_phase(server, whole, kind):
    """Every phase of Pave Train and of a drawn loop; and the server goes on after each."""
    rows, wrong = [], []
    cases = [(phase, cancelled_in_steps, ()) for phase in PHASES if kind != "plain" or phase not in SHORT]
    at_the_end = AT_THE_END if kind == "drawn" else {k: v for k, v in AT_THE_END.items() if k != "final evaluation"}
    cases += [(phase, cancelled_at_the_end, event) for phase, event in at_the_end.items()]
    for phase, check, event in cases:
        try:
            rows.append(check(server, whole, kind, phase, *event))
        except Exception as problem:
            wrong.append((kind, phase, "WRONG", str(problem).splitlines()[0][:300]))
            server.faults.set()
    table(f"Cancel in {len(cases)} phases", rows + wrong)
    assert not wrong


@pytest.mark.long
@pytest.mark.parametrize("phase", OF_A_GUARD)
def test_cancel_in_the_guard(server, whole, phase):
    """The reading that was cut off is made again, and the best weights are those of the uninterrupted run."""
    event, which = OF_A_GUARD[phase]
    name = f"guarded_{phase.replace(' ', '_')}"
    seconds, end, _ = cancel(server, small("guarded", name=name), event, which)
    assert end == "execution_interrupted"
    assert seconds < LONGEST
    done = step_of(server.output, f"{name}_00001")
    assert differences(whole("guarded"), resumed(server, "guarded", name)) == []
    table("Cancel", [("guarded", phase, f"{seconds:.2f} s", f"kept step {done}", "resumed equal")])


def test_two_cancels_are_one(server, whole):
    """Pressed twice: kept once, and the next Run is not cancelled."""
    server.faults.set({"match": "phase update", "skip": 2, "do": "hold"})
    server.faults.forget()
    with server.client() as client:
        prompt = client.queue(small("plain", name="twice"))
        server.wait_for("  hold")
        client.interrupt()
        client.interrupt()
        server.faults.set()
        assert "execution_interrupted" in [event.kind for event in client.events(prompt, timeout=120)]
    assert step_of(server.output, "twice_00001") == 2
    assert differences(whole("plain"), resumed(server, "plain", "twice")) == []
