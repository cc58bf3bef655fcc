"""Two servers with one output folder: a run has one writer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from _faulty_server import FaultyServer
from _host.client import PromptError
from _small_runs import RUN, differences, left, lines, small, step_of, table

pytestmark = pytest.mark.slow


def queue_held(server: FaultyServer, graph, event: str, which: int) -> str:
    """Queue a graph, and return its id when it is held at this event."""
    server.faults.forget()
    server.faults.set({"match": event, "skip": which, "do": "hold"})
    with server.client() as client:
        prompt = client.queue(graph)
    server.wait_for("  hold")
    return prompt


def finished(server: FaultyServer, prompt: str) -> None:
    """Let what is held go on, and wait for the end of its prompt."""
    import time

    server.faults.set()
    deadline = time.monotonic() + 120
    with server.client() as client:
        while True:
            try:
                status = client.history(prompt)["status"]
            except KeyError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            else:
                assert status["status_str"] == "success", status
                return


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "drawn"])
def test_the_second_server_that_resumes_a_run_is_refused_and_the_first_is_unharmed(comfyui, root, tmp_path, kind):
    with (
        FaultyServer(comfyui, root, tmp_path, name="one") as one,
        FaultyServer(comfyui, root, tmp_path, name="two") as two,
        one.client() as first,
        two.client() as second,
    ):
        first.run(small(kind, name="whole"), timeout=300)
        reference = left(one.output, "whole_00001")

        # A run under way is not resumed elsewhere, not begun elsewhere under its name, and not hurt by the try.
        prompt = queue_held(one, small(kind), "phase rollout", 4)
        done = step_of(one.output)
        assert done == 4
        rest = 4 if kind == "drawn" else 8
        with pytest.raises(PromptError, match=r"resume: .*in use") as refused:
            second.run(small(kind, resume=RUN, iterations=rest), timeout=300)
        assert len(str(refused.value)) <= 600
        second.run(small(kind), timeout=300)
        assert differences(reference, left(two.output, "small_00002")) == []
        finished(one, prompt)
        assert [record["step"] for record in lines(one.output / "pave" / RUN / "metrics.jsonl")] == list(range(1, 9))
        assert differences(reference, left(one.output)) == []

        # Both resume a killed run at once: one of them makes it, the other is refused.
        one.faults.set({"match": "phase rollout", "skip": 4, "do": "kill"})
        one.queue(small(kind, name="killed"))
        assert one.wait_for_its_end() == -signal.SIGKILL
        one.faults.set()
        one.start()
        run = "killed_00001"
        done = step_of(two.output, run)
        assert done == 4
        again = small(kind, name="killed", resume=run, iterations=rest)
        prompt = queue_held(two, again, "phase rollout", 1)
        with one.client() as first_again, pytest.raises(PromptError, match=r"resume: .*in use"):
            first_again.run(again, timeout=300)
        finished(two, prompt)
        assert differences(reference, left(two.output, run)) == []

        # A finished run is free.
        with one.client() as first_again:
            finish = small(kind, name="killed", resume=run, iterations=0 if kind == "drawn" else 8)
            first_again.run(finish, timeout=300)
        assert differences(reference, left(one.output, run)) == []
    table("two servers", [(kind, "resume of a run under way: refused twice", str(refused.value)[:300])])


def test_a_lock_of_another_program_is_not_an_end(tmp_path: Path):
    """What the lock is: a second FileLock on in_use.lock fails at once, and a dead process holds none."""
    file = tmp_path / "in_use.lock"
    child = os.fork()
    if child == 0:
        FileLock(file).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    lock = FileLock(file)
    lock.acquire(timeout=0)
    with pytest.raises(Timeout):
        FileLock(file).acquire(timeout=0)
    lock.release()
