"""tools/cuda_check.py as a user runs it, in miniature on the CPU; and its verdicts on records of a card."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from _cuda.child import Child
from _cuda.plans import PARTS, Plan, parts_named
from _cuda.table import PHASES, table
from _cuda.targets import verdicts

CHECK = Path(__file__).resolve().parents[2] / "tools" / "cuda_check.py"
MEASURED = [part for part in PARTS if part.plans]


@pytest.fixture(scope="module")
def checked(comfyui, tmp_path_factory) -> tuple[dict[str, Any], str]:
    """(what it wrote, what it printed) of a run without a card."""
    file = tmp_path_factory.mktemp("check") / "found.json"
    command = [sys.executable, str(CHECK), "--here", "--comfyui", str(comfyui), "--out", str(file)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    log = file.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr + log[-3000:]
    return json.loads(file.read_text(encoding="utf-8")), done.stdout


@pytest.mark.long
def test_every_part_passes_without_a_card(checked):
    found, printed = checked
    assert {name: part["status"] for name, part in found["parts"].items()} == {part.name: "passed" for part in PARTS}
    assert found["host"]["device"] == "cpu"
    assert "In miniature" in printed


@pytest.mark.long
def test_every_plan_has_the_seconds_of_each_phase(checked):
    found, _ = checked
    plans = {(each["part"], each["plan"]): each for each in found["plans"]}
    assert plans.keys() == {(part.name, plan.name) for part in MEASURED for plan in part.plans}
    for plan in plans.values():
        assert plan["status"] == "passed"
        assert set(PHASES) <= plan["phases"].keys()
        assert all(phase["seconds"] > 0 and phase["allocated_gb"] is None for phase in plan["phases"].values())
        assert plan["grad_norm"] > 0
        assert plan["check"].startswith("gradient check: ")


@pytest.mark.long
def test_what_is_compared_is_there(checked):
    found, _ = checked
    for part in MEASURED:
        plans = {each["plan"]: each for each in found["plans"] if each["part"] == part.name}
        for plan in part.plans:
            record = plans[plan.name]
            assert ("bare_seconds" in record) == ("bare" in plan.extras)
            assert ("groups" in record) == ("groups" in plan.extras)
            compared = "gradient" in plan.extras and plan is not part.plans[0]
            assert ("gradient" in record) == compared
            if compared:
                assert record["gradient"]["cosine"] == pytest.approx(1, abs=1e-5)
                assert record["without_gradient"] == 0
    assert found["parts"]["flux-fp8"]["weights"] == "float8_e4m3fn"
    assert found["parts"]["flux-bf16"]["weights"] == "bfloat16"
    assert found["parts"]["sample"]["largest_change"] > 0


@pytest.mark.long
def test_the_quickstart_ran_in_the_real_server(checked):
    quickstart = checked[0]["parts"]["quickstart"]
    assert quickstart["steps"] == 1
    assert quickstart["phases"]["update"] > 0
    assert -10 < quickstart["reward_before"] < 0


def phases(gb: float, **seconds: float) -> dict[str, Any]:
    return {name: {"seconds": s, "allocated_gb": gb, "reserved_gb": gb} for name, s in seconds.items()}


def on_a_card(*plans: dict[str, Any]) -> dict[str, Any]:
    """What a check of the part sd35 has found on a card."""
    host = {"device": "a card", "device_gb": 80.0, "comfyui": "1.2.3", "torch": "2"}
    records = [{"part": "sd35", "status": "passed", **plan} for plan in plans]
    return {"host": host, "parts": {"sd35": {"status": "passed"}}, "plans": records, "seconds": 1.0, "targets": []}


def met(found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {each["target"]: (each["value"], each["met"]) for each in verdicts(found)}


def test_targets_are_met_or_missed_by_what_was_measured():
    groups = {"2": {"seconds": 1.0, "allocated_gb": 7.0}, "48": {"seconds": 1.5, "allocated_gb": 7.1}}
    checkpointed = {"phases": phases(7.5, update=3.0), "rollout_seconds": 2.1, "bare_seconds": 2.0, "groups": groups}
    plain = {"phases": phases(20.0, rollout=2.1, update=1.5), "gradient": {"cosine": 0.9}}
    found = on_a_card({"plan": "checkpointed", **checkpointed}, {"plan": "plain", **plain})
    assert met(found) == {
        "sd35, checkpointed: GB at most": (7.5, True),
        "sd35, preset 8 GB: GB at most": (None, None),
        "sd35, preset 12 GB: GB at most": (None, None),
        "sd35: rollout / bare network": (1.05, True),
        "sd35: checkpointed update / plain": (2.0, False),
        "sd35: cosine of the gradients, plain and checkpointed": (0.9, False),
        "sd35: update at several G, most GB / least": (pytest.approx(7.1 / 7.0), True),
        "sd35: update at several G, most seconds / least": (1.5, False),
    }


def test_a_plan_that_ran_out_of_memory_misses_its_target_and_the_table_says_where():
    failed = {"status": "out of memory", "phase": "update", "reason": "no room", "phases": phases(9.0, rollout=1.0)}
    found = on_a_card({"plan": "checkpointed", **failed})
    assert met(found)["sd35, checkpointed: GB at most"] == (None, False)
    assert met(found)["sd35: checkpointed update / plain"] == (None, None)
    found["targets"] = verdicts(found)
    lines = table(found).splitlines()
    assert "  checkpointed: out of memory in update, no room" in lines
    assert any("GB at most" in line and line.endswith("MISSED") for line in lines)


def test_in_miniature_seconds_and_memory_are_not_judged():
    found = on_a_card({"plan": "checkpointed", "phases": phases(99.0), "rollout_seconds": 9.0, "bare_seconds": 1.0})
    found["host"]["device_gb"] = None
    assert {value for value, _ in met(found).values()} == {None}


def test_the_table_has_seconds_and_memory_of_every_phase_and_who_is_on_the_device():
    whole = {name: {"seconds": i + 1, "allocated_gb": i, "reserved_gb": i + 0.5} for i, name in enumerate(PHASES)}
    whole["update"]["resident_gb"] = {"policy": 4.9}
    found = on_a_card({"plan": "preset 8 GB", "phases": whole, "predicted_gb": 6.4})
    seconds, memory, resident = table(found).splitlines()[4:7]
    assert seconds.split() == ["preset", "8", "GB", "s", *(f"{i}.000" for i in range(1, 9))]
    assert memory.split() == ["GB", *(f"{i}.0/{i}.5" for i in range(8)), "7.00", "6.4"]
    assert resident.strip() == "on the device after update: policy 4.9 GB"


def child(**facts: float) -> Child:
    return Child(
        {"device_gb": 12.0, "free_ram_gb": 30.0, **facts}, lambda record, **values: None, time.monotonic() + 30
    )


def test_how_a_plan_ends_is_told_apart():
    def ends(error: BaseException, cause: BaseException | None = None) -> str:
        def run() -> None:
            raise error from cause

        return child().outcome(run)["status"]

    full = torch.cuda.OutOfMemoryError("no room")
    assert child().outcome(lambda: None) == {"status": "passed"}
    assert ends(full) == ends(RuntimeError("a remedy"), full) == "out of memory"
    assert ends(RuntimeError("wrong")) == "failed"
    with pytest.raises(KeyboardInterrupt):
        ends(KeyboardInterrupt())


def test_what_a_card_or_the_time_has_no_room_for_is_skipped():
    assert child().no_room(Plan("small", needs_gb=12, seconds=5)) is None
    assert child(device_gb=11.6).no_room(Plan("small", needs_gb=12, seconds=5)) is None
    assert child().no_room(Plan("large", needs_gb=16, seconds=5)) == "needs a card of 16 GB"
    assert child().no_room(Plan("slow", needs_gb=8, seconds=60)) == "30 s of the time were left"


def test_a_part_that_needs_more_system_memory_is_skipped():
    (part,) = parts_named(["flux-bf16"])
    assert child().part(part) == {"status": "skipped", "reason": "needs 36 GB of system memory; 30 are free"}


def test_parts_keep_their_order_and_unknown_ones_are_refused():
    assert [part.name for part in parts_named(["sd35", "sample"])] == ["sample", "sd35"]
    with pytest.raises(ValueError, match="flux9: choose among quickstart, sample"):
        parts_named(["flux9"])
