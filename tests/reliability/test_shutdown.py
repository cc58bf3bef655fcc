"""The server is ended from outside in the middle of a run: by a service manager (SIGTERM) or by Ctrl-C (SIGINT)."""

from __future__ import annotations

import signal
import sys
import time

import pytest
from safetensors.torch import load_file

from _faulty_server import FaultyServer
from _small_runs import KINDS, STEPS, differences, header, left, lines, lora_of, small, step_of, table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]
CASES = [
    ("plain", signal.SIGTERM),
    pytest.param("plain", signal.SIGINT, marks=pytest.mark.long),
    pytest.param("guarded", signal.SIGTERM, marks=pytest.mark.long),
    pytest.param("drawn", signal.SIGINT, marks=pytest.mark.long),
    pytest.param("drawn", signal.SIGTERM, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_server_that_is_ended_keeps_every_complete_step(comfyui, root, tmp_path, kind, number):
    """checkpoint_every is far away, so that only the end of the server can save step 5."""
    assert kind in KINDS
    with FaultyServer(comfyui, root, tmp_path) as server:
        with server.client() as client:
            client.run(small(kind, name="whole", every=1000), timeout=300)
        reference = left(server.output, "whole_00001")
        server.faults.forget()
        server.faults.set({"match": "phase update", "skip": 5, "do": "hold"})
        server.queue(small(kind, name="ended", every=1000))
        server.wait_for("  hold")
        began = time.monotonic()
        server.send(number)
        time.sleep(0.5)
        server.faults.set()
        code = server.wait_for_its_end()
        seconds = time.monotonic() - began
        said = server.said()
        run = "ended_00001"
        done = step_of(server.output, run)
        assert done == 5, f"{done} of 5 complete steps were kept"
        assert load_file(lora_of(server.output, run))
        kept = header(lora_of(server.output, run), "pave_recipe")["step"]
        assert kept == 5 or (kind == "guarded" and kept == 4)
        assert [each["step"] for each in lines(server.output / "pave" / run / "metrics.jsonl")] == [1, 2, 3, 4, 5]
        assert "after step 5" in said
        assert seconds < 60
        server.start()
        rest = STEPS - done if kind == "drawn" else STEPS
        with server.client() as client:
            client.run(small(kind, name="ended", resume=run, iterations=rest, every=1000), timeout=300)
        assert differences(reference, left(server.output, run)) == []
    row = (kind, number.name, f"exit code {code} after {seconds:.1f} s", "5 of 5 steps kept, resumed equal")
    table("ended from outside in step 6", [row])


@pytest.mark.long
def test_a_server_without_a_run_ends_as_ever(comfyui, root, tmp_path):
    """Our part in the end of a server is none where nothing trains."""
    with FaultyServer(comfyui, root, tmp_path) as server:
        with server.client() as client:
            client.run(small("plain"), timeout=300)
        before = len(server.said())
        server.send(signal.SIGTERM)
        assert server.wait_for_its_end() in (-signal.SIGTERM, 0, 143)
        assert "Traceback" not in server.said()[before:]
