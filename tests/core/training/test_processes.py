"""Several processes: the run of one process, to rounding; and what becomes of it when one of them ends."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from _small_runs import header
from _toy import lines, toy_config
from pave_core.errors import ConfigError
from pave_core.training.processes import Sharding

PROGRAM = Path(__file__).resolve().parents[2] / "support" / "_toy_process.py"
CLOSE = 1e-6


@pytest.fixture(scope="module")
def forks():
    """The program of tests/support/_toy_process.py, up."""
    process = subprocess.Popen([sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.stdin.close()
    process.wait(30)


@pytest.fixture
def train(forks, tmp_path):
    """train(name, world, **order) -> what the processes have left; its run is <name>/runs/toy_00001."""

    def trained(name, world=1, **order):
        output, store = tmp_path / name, tmp_path / f"{name}.store"
        output.mkdir(exist_ok=True)
        store.unlink(missing_ok=True)
        settings = {"name": "toy"} | order.pop("settings", {})
        order |= {"world": world, "store": str(store), "output": str(output), "settings": settings}
        forks.stdin.write(json.dumps(order) + "\n")
        forks.stdin.flush()
        codes = json.loads(forks.stdout.readline())
        return SimpleNamespace(
            codes=codes,
            said=[(output / f"rank_{rank}.log").read_text("utf-8") for rank in range(world)],
            ranks=[adapter(output, rank) for rank in range(world)],
            metrics=metrics(output),
            output=output,
            run=output / "runs" / "toy_00001",
        )

    return trained


def adapter(output, rank):
    file = output / f"rank_{rank}.safetensors"
    return load_file(file) if file.exists() else {}


def metrics(output):
    file = output / "runs" / "toy_00001" / "metrics.jsonl"
    return lines(file) if file.exists() else []


def furthest(one, other) -> float:
    """The largest difference of two adapters."""
    assert one.keys() == other.keys()
    assert one
    return max((one[name] - other[name]).abs().max().item() for name in one)


def alike(one, other, close=CLOSE) -> bool:
    """Whether two JSON values differ only by rounding. The loss is what numbers of about 1 leave when they cancel."""
    if isinstance(one, dict):
        parts = [alike(one[key], other[key], 1e-5 if key == "loss" else close) for key in one]
        return one.keys() == other.keys() and all(parts)
    if isinstance(one, list):
        return len(one) == len(other) and all(alike(a, b, close) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return other == pytest.approx(one, rel=1e-4, abs=close)
    return one == other


SHARED = {
    "prompts": ({"shard": "prompts"}, 2, {}),
    "branches": ({"shard": "branches"}, 2, {}),
    "both": ({"shard": "both"}, 4, {}),
    "branches of four": ({"shard": "branches"}, 4, {}),
    "trajectories": ({"shard": "both"}, 4, {"rollout.exploration": "trajectories"}),
    "one noise": ({"shard": "branches"}, 2, {"rollout.exploration": "trajectories, one noise"}),
    "several updates": (
        {"shard": "both"},
        4,
        {"pave.updates_per_rollout": 2, "pave.kl_weight": 0.01},
    ),
    "average": ({"shard": "prompts"}, 2, {"optim.ema_decay": 0.9}),
    "tails": ({"shard": "branches"}, 2, {"rollout.coarser_tails": [2]}),
    "contrast": ({"shard": "prompts"}, 2, {"rollout.contrast": 2}),
    "candidates": ({"shard": "both"}, 4, {"rollout.candidates": 4, "pave.global_advantage": True}),
}


SHORT = ("branches", "both", "average")
"""The cases of the short form."""


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in SHARED]
)
def test_the_run_of_several_processes_is_that_of_one(name, train):
    sharding, world, config = SHARED[name]
    one = train("one", config=config)
    several = train("several", world, config=config, sharding=sharding)
    assert one.codes + several.codes == [0] * (1 + world), (one.said, several.said)
    differences = [furthest(one.ranks[0], rank) for rank in several.ranks]
    print(f"{name}: {world} processes, adapter within {max(differences):.1e} of one process after 5 steps")
    assert max(differences) <= CLOSE
    assert len(several.metrics) == 5
    assert alike(one.metrics, several.metrics)
    for field in ("prompts", "groups", "zero_spread_groups", "skipped", "step"):
        assert [record[field] for record in one.metrics] == [record[field] for record in several.metrics]
    evaluations = [json.loads((each.run / "evaluations.json").read_text("utf-8")) for each in (one, several)]
    assert alike(*evaluations)


@pytest.mark.long
def test_a_base_that_is_shared_out_gives_the_same(train):
    """FSDP, as docs/SCALING.md describes it: each process has a half of every weight of the base. All must call the
    network equally often, so that the held-out prompts are two.
    """
    one, several = train("one", held_out=2), train("several", 2, fsdp=True, held_out=2)
    assert several.codes == [0, 0], several.said
    assert max(furthest(one.ranks[0], rank) for rank in several.ranks) <= CLOSE
    assert alike(one.metrics, several.metrics)


def test_process_0_alone_writes(train):
    several = train("several", 2)
    files = {path.relative_to(several.output).parts[0] for path in several.output.rglob("*")}
    own = {f"rank_{rank}.{end}" for rank in range(2) for end in ("json", "safetensors", "log")}
    assert files == {"runs", "loras", *own}
    assert [path.name for path in (several.output / "runs").iterdir()] == ["toy_00001"]
    assert {path.name for path in several.run.iterdir()} >= {"summary.json", "curve.png", "grid.png"}
    assert several.said[1] == ""


def test_a_guard_acts_in_all_of_them(train):
    guard = {"every": 2, "action": "lower learning rate", "max_drift": 1e-6}
    one, several = train("one", guard=guard), train("several", 2, guard=guard)
    records = [lines(each.run / "guard.jsonl") for each in (one, several)]
    assert any(reading["alarms"] for reading in records[0])
    assert [reading["step"] for reading in records[0]] == [reading["step"] for reading in records[1]]
    assert [bool(reading["alarms"]) for reading in records[0]] == [bool(reading["alarms"]) for reading in records[1]]
    assert furthest(one.ranks[0], several.ranks[1]) <= CLOSE


@pytest.mark.parametrize(
    ("before", "after"), [(1, 2), *(pytest.param(*each, marks=pytest.mark.long) for each in ((2, 1), (2, 4)))]
)
def test_a_run_goes_on_with_another_number_of_processes(before, after, train):
    sharding = {"shard": "both"}
    whole = train("whole")
    train("parts", before, sharding=sharding, until=2)
    resumed = train("parts", after, sharding=sharding, settings={"resume": "toy_00001"})
    assert resumed.codes == [0] * after, resumed.said
    assert len(resumed.metrics) == 5
    assert alike(whole.metrics, resumed.metrics)
    assert max(furthest(whole.ranks[0], rank) for rank in resumed.ranks) <= CLOSE


def test_a_guarded_run_goes_on_in_several_processes(train):
    guard = {"every": 2, "action": "lower learning rate", "max_drift": 1e-6}
    whole = train("whole", guard=guard)
    train("parts", 1, guard=guard, until=3)
    resumed = train("parts", 2, guard=guard, settings={"resume": "toy_00001"})
    assert resumed.codes == [0, 0], resumed.said
    assert furthest(whole.ranks[0], resumed.ranks[1]) <= CLOSE


def test_when_a_process_is_killed_the_others_end_and_process_0_saves(train):
    began = time.monotonic()
    left = train("left", 2, die={"1": 3}, sharding={"timeout": 600})
    assert time.monotonic() - began < 300
    assert left.codes == [3, -signal.SIGKILL]
    assert "rank 0: processes: process 0 has lost another one" in left.said[0]
    assert header(left.run / "checkpoint.safetensors", "pave")["step"] == 3
    whole, resumed = train("whole"), train("left", 1, settings={"resume": "toy_00001"})
    assert resumed.codes == [0]
    assert furthest(whole.ranks[0], resumed.ranks[0]) <= CLOSE


@pytest.mark.long
def test_when_process_0_is_killed_the_others_end(train):
    left = train("left", 2, die={"0": 3}, sharding={"timeout": 600})
    assert left.codes == [-signal.SIGKILL, 3]
    assert header(left.run / "checkpoint.safetensors", "pave")["step"] >= 1


def test_a_process_that_does_not_answer_ends_the_run(train):
    began = time.monotonic()
    left = train("left", 2, hang={"1": 2}, sharding={"timeout": 3})
    assert time.monotonic() - began < 300
    assert left.codes == [3, -signal.SIGKILL]  # it would hang still
    assert "processes: one has not answered for 3 s" in left.said[0]
    assert header(left.run / "checkpoint.safetensors", "pave")["step"] == 2


@pytest.mark.parametrize(
    ("shard", "world", "said"),
    [
        ("prompts", 3, "processes: 3 do not divide prompts_per_step 2, which shard 'prompts' shares out: start 1, 2 "),
        ("branches", 3, "processes: 3 do not divide group_size 4, which shard 'branches' shares out: start 1, 2, 4 "),
        (
            "both",
            3,
            "3 do not divide prompts_per_step 2 and group_size 4, which shard 'both' shares out: start 1, 2, 4, 8",
        ),
    ],
)
def test_processes_that_do_not_divide_the_work_are_refused_with_the_numbers_that_do(shard, world, said):
    with pytest.raises(ConfigError) as refused:
        Sharding(shard).grid(world, toy_config())
    assert said in str(refused.value)


def test_what_cannot_be_shared_is_refused():
    config = toy_config(optimizer_step="per_step")
    with pytest.raises(ConfigError, match="optimizer_step: per_step goes through the branch steps one after another"):
        Sharding("prompts").grid(2, config)
    assert Sharding("prompts").grid(1, config) == (1, 1)
    config = replace(toy_config(), rollout=replace(toy_config().rollout, contrast=2))
    with pytest.raises(ConfigError, match="contrast: 2 images of a group may lie in one process"):
        Sharding("branches").grid(2, config)


@pytest.mark.parametrize(("world", "grid"), [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (8, (2, 4))])
def test_both_shares_out_prompts_first(world, grid):
    assert Sharding("both").grid(world, toy_config()) == grid
