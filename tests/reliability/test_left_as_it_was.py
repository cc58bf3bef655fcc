"""The user's machine after our nodes: MODEL, CLIP, VAE, the process and the thread that ran them are as they were.

After success, error and Cancel, in the host's real executor: see tests/support/_standing_host.py for what goes wrong,
and _machine_state.py for what is compared.
"""

from __future__ import annotations

import gc
import logging
import random
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import _machine_state
from _standing_host import LAYER, Fault, Machine, standing
from _training_graphs import Graph, composed, looped, node


@pytest.fixture(scope="module")
def machine(host, modules, root, tmp_path_factory) -> Iterator[Machine]:
    """As standing(), for all tests of this file."""
    with standing(host, modules, root, tmp_path_factory.mktemp("temp")) as made:
        yield made


@pytest.fixture
def graphs(machine) -> dict[str, Graph]:
    """The graphs that train or measure, small, on this test's parts and reward."""
    settings = machine.node("PaveRolloutSettings", steps=3, branch_steps="0, 1", group_size=2, width=64, height=64)
    common = composed() | {"tiny": node("TestParts"), "reward": node("TestReward"), "rollout": settings}
    common = {name: each for name, each in common.items() if name not in ("clip", "colour")}
    parts: dict[str, Any] = {"model": ["tiny", 0], "clip": ["tiny", 1], "vae": ["tiny", 2]}
    wired = {name: [name, 0] for name in ("policy", "prompts", "rollout", "objective", "optimizer")}
    scored: dict[str, Any] = {"prompts": ["prompts", 0], "reward": ["reward", 0]}
    small = {"iterations": 2, "prompts_per_step": 1, "evaluation_seeds": 2}

    def train(**values: Any) -> Graph:
        return common | {"train": machine.node("PaveTrainAdvanced", **wired | scored | small | values)}

    recomputed = {"memory": machine.node("PaveMemory", checkpointing="on")}
    guarded = {"guard": machine.node("PaveGuard", every=1, max_drift=1.0)}
    shown = {"steps": 3, "branch_steps": "0, 1", "group_size": 2, "width": 64, "height": 64, "rank": 2}
    begin = machine.node("PaveBegin", **wired | {"prompts_per_step": 1, "evaluation_seeds": 2, "reward": ["reward", 0]})
    compared = {"model_a": ["tiny", 0], "model_b": ["tiny", 0], "clip": ["tiny", 1], "vae": ["tiny", 2]}
    check = {"policy": ["policy", 0], "rollout": ["rollout", 0], **scored}
    compare = {"seeds": 1, "steps": 2, "width": 64, "height": 64}
    loop = looped("loop", 2)
    drawn = {name: loop[name] for name in ("loop", "draw", "score", "advantage", "loss", "step", "end", "finish")}
    return {
        "Pave Train": common | {"train": machine.node("PaveTrain", **parts | scored | small | shown)},
        "Pave Train (Advanced)": train(evaluate_every=1),
        "with checkpointing": train(memory=["memory", 0]) | recomputed,
        "with a guard": train(guard=["guard", 0]) | guarded,
        "refused": train(resume="never_00001"),
        "drawn loop": common | drawn | {"begin": begin},
        "Pave Check Reward": common | {"check": machine.node("PaveCheckReward", **check)},
        "Pave Compare": common
        | {
            "compare": machine.node("PaveCompare", **compared | scored | compare),
            "shown": node("SaveImage", images=["compare", 0], filename_prefix="compared"),
        },
        "Pave Preflight": common | {"preflight": machine.node("PavePreflight", **check)},
    }


FAILED = RuntimeError("a fault of this test")
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def reward_fails(phase: str, at: int = 1) -> Fault:
    return Fault("reward", phase, FAILED, at)


def network_fails(phase: str, at: int = 1) -> Fault:
    return Fault("network", phase, FAILED, at)


def memory_runs_out(phase: str, lasting: bool = True) -> Fault:
    return Fault("network", phase, NO_MEMORY, lasting=lasting)


def cancel(phase: str, at: int = 1) -> Fault:
    return Fault("cancel", phase, at=at)


SUCCESS, REFUSED = ("success", ""), ("error", "resume")
BROKEN, FULL, CANCELLED = ("error", str(FAILED)), ("error", "memory ran out"), ("interrupted", "")
CASES: list[tuple[str, Fault | None, tuple[str, str]]] = [
    ("Pave Train", None, SUCCESS),
    ("drawn loop", None, SUCCESS),
    ("refused", None, REFUSED),
    ("Pave Train", reward_fails("scoring", 2), BROKEN),
    ("with checkpointing", network_fails("update, computed again", 2), BROKEN),
    ("drawn loop", network_fails("update", 3), BROKEN),
    ("Pave Train (Advanced)", memory_runs_out("update"), FULL),
    ("Pave Train", cancel("rollout", 50), CANCELLED),
    ("Pave Train", cancel("update", 50), CANCELLED),
    ("drawn loop", cancel("update", 50), CANCELLED),
]
"""(the graph, what goes wrong, how it ends and what its message holds)"""
MORE_CASES: list[tuple[str, Fault | None, tuple[str, str]]] = [
    ("Pave Check Reward", None, SUCCESS),
    ("Pave Compare", None, SUCCESS),
    ("Pave Preflight", None, SUCCESS),
    ("Pave Train", cancel("encoding", 9), CANCELLED),
    ("Pave Train", cancel("reward check", 50), CANCELLED),
    ("Pave Train", cancel("evaluation", 50), CANCELLED),
    ("Pave Train", cancel("final evaluation", 50), CANCELLED),
    ("Pave Train (Advanced)", None, SUCCESS),
    ("with checkpointing", None, SUCCESS),
    ("with a guard", None, SUCCESS),
    ("Pave Train (Advanced)", reward_fails("reward check"), BROKEN),
    ("Pave Train (Advanced)", reward_fails("evaluation"), BROKEN),
    ("with a guard", reward_fails("evaluation", 3), BROKEN),
    ("Pave Train", reward_fails("final evaluation"), BROKEN),
    ("drawn loop", reward_fails("scoring", 2), BROKEN),
    ("Pave Check Reward", reward_fails("reward check"), BROKEN),
    ("Pave Compare", reward_fails("evaluation", 2), BROKEN),
    ("Pave Train (Advanced)", network_fails("encoding"), BROKEN),
    ("Pave Train (Advanced)", network_fails("preflight"), BROKEN),
    ("Pave Train (Advanced)", network_fails("gradient check"), BROKEN),
    ("Pave Train (Advanced)", network_fails("rollout", 3), BROKEN),
    ("Pave Train (Advanced)", network_fails("update", 3), BROKEN),
    ("with checkpointing", network_fails("update", 3), BROKEN),
    ("with checkpointing", network_fails("gradient check", 2), BROKEN),
    ("drawn loop", network_fails("rollout", 3), BROKEN),
    ("Pave Compare", network_fails("evaluation"), BROKEN),
    ("Pave Check Reward", network_fails("reward check"), BROKEN),
    ("Pave Preflight", network_fails("preflight"), BROKEN),
    ("Pave Train (Advanced)", memory_runs_out("update", lasting=False), SUCCESS),
    ("with checkpointing", memory_runs_out("update, computed again"), FULL),
    ("drawn loop", memory_runs_out("update"), FULL),
    *(
        (graph, cancel(phase, at), CANCELLED)
        for graph, phases in {
            "Pave Train": (
                "encoding",
                "preflight",
                "gradient check",
                "reward check",
                "evaluation",
                "rollout",
                "update",
            ),
            "with checkpointing": ("gradient check", "update"),
            "with a guard": ("evaluation",),
            "drawn loop": ("encoding", "reward check", "evaluation", "rollout", "final evaluation"),
            "Pave Check Reward": ("reward check",),
            "Pave Compare": ("encoding", "evaluation"),
            "Pave Preflight": ("preflight",),
        }.items()
        for phase in phases
        for at in (1, 60)
    ),
]
TABLE: list[str] = []
"""What was run, how it ended, and what it left changed."""


def name_of(case: Any) -> str:
    graph, fault, _ = case
    return graph if fault is None else f"{graph}, {'/'.join(map(str, (fault.place, fault.phase, fault.at)))}"


@pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in MORE_CASES)], ids=name_of
)
def test_nothing_is_left_changed(machine, graphs, case):
    graph, fault, (ends, message) = case
    fault = fault and replace(fault)
    picture = machine.picture()
    ended, changed = machine.changed_by(graphs[graph], fault)
    same_picture = machine.picture() == picture
    happened = "nothing" if fault is None else f"{fault.place} in {fault.phase}, moment {fault.at}"
    TABLE.append(
        f"{graph:22} {happened:48} {ended:12} {len(changed):3} changed  picture {'same' if same_picture else 'OTHER'}"
    )
    assert fault is None or fault.happened, dict(machine.moments)
    assert (ended, message in machine.message) == (ends, True), machine.message
    assert changed == []
    assert same_picture


def test_the_table(machine):
    print(f"\n{len(TABLE)} runs; {len(machine.state())} things of the machine compared after each", *TABLE, sep="\n")


STRANGERS = [case for case in CASES if case[1] is not None and case[1].phase.startswith(("update", "scoring"))]


@pytest.mark.parametrize(
    "case", [*STRANGERS[:2], *(pytest.param(case, marks=pytest.mark.long) for case in STRANGERS[2:])], ids=name_of
)
def test_other_packs_nodes_work_right_after_a_failed_training(machine, graphs, case):
    """Stock sampling, a stock LoRA, the host's own trainer, and a training of ours, in the same process."""
    graph, fault, (ends, _) = case
    before, trained = machine.of_other_nodes(), machine.trained(graphs["Pave Train"])
    assert len(set(before.values())) == 3  # the LoRA changes the picture, training does not
    assert machine.run(graphs[graph], fault and replace(fault)) == ends
    assert machine.of_other_nodes() == before
    assert machine.trained(graphs["Pave Train"]) == trained


Damage = Callable[[Machine, pytest.MonkeyPatch], Any]


def weight(machine: Machine) -> torch.nn.Parameter:
    return machine.stock.model.model.diffusion_model.get_submodule(LAYER).fc1.weight


def flip_a_bit(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        weight(machine).view(torch.uint8)[0, 0] ^= 1


def freeze_or_thaw(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        weight(machine).requires_grad_(not weight(machine).requires_grad)


def leave_a_thread(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    threading.Timer(600.0, print).start()


def leave_a_file(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    Path(tempfile.gettempdir(), "left").touch()


def patch_the_model(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(machine.stock.model.model_options, "sampler_cfg_function", print)


def patch_in_place(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.Tensor, "__iadd__", torch.Tensor.__add__)


DAMAGES: dict[str, tuple[str, Damage]] = {
    "a bit of a weight": (f"MODEL.diffusion_model.{LAYER}.fc1.weight: bytes", flip_a_bit),
    "a frozen weight": ("weight: requires_grad", freeze_or_thaw),
    "an attribute of a weight": (
        "weight: attributes",
        lambda machine, p: p.setattr(weight(machine), "x", 1, raising=False),
    ),
    "a flag of a module": (
        "final_layer: training",
        lambda machine, p: p.setattr(machine.stock.model.model.diffusion_model.final_layer, "training", True),
    ),
    "a hook": (
        "mlp: _forward_hooks",
        lambda machine, _: machine.stock.model.model.diffusion_model.get_submodule(LAYER).register_forward_hook(print),
    ),
    "an option of MODEL": ("MODEL: model_options", patch_the_model),
    "a module of CLIP": (
        "CLIP.clip_l: forward",
        lambda machine, p: p.setattr(machine.stock.clip.cond_stage_model.clip_l, "forward", print),
    ),
    "an attribute of VAE": (
        "VAE: its upscale_ratio",
        lambda machine, p: p.setattr(machine.stock.vae, "upscale_ratio", 5),
    ),
    "an operator of tensors": ("Tensor.__iadd__", patch_in_place),
    "a function of torch": ("torch.addcmul", lambda _, p: p.setattr(torch, "addcmul", torch.add)),
    "a function of the host": (
        "comfy.ldm.modules.attention.attention_pytorch",
        lambda _, p: p.setattr("comfy.ldm.modules.attention.attention_pytorch", print),
    ),
    "the random state of torch": ("random: torch", lambda *_: torch.rand(1)),
    "the random state of numpy": ("random: numpy", lambda *_: np.random.rand()),
    "the random state of Python": ("random: random", lambda *_: random.seed(4)),
    "a setting of torch": ("torch.cudnn.benchmark", lambda _, p: p.setattr(torch.backends.cudnn, "benchmark", True)),
    "the mode of the thread": ("thread: gradients", lambda machine, _: machine.inside(torch.set_grad_enabled, False)),
    "the environment": ("environment", lambda _, p: p.setenv("LEFT", "1")),
    "a log handler": ("logging: root", lambda _, p: p.setattr(logging.root, "handlers", [])),
    "a filter of warnings": ("warnings: filters", lambda *_: warnings.simplefilter("ignore", RuntimeWarning)),
    "a signal handler": ("signals", lambda *_: signal.signal(signal.SIGUSR1, print)),
    "a thread": ("threads", leave_a_thread),
    "a file": ("files in", leave_a_file),
    "garbage collection": ("garbage collection", lambda *_: gc.disable()),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_left_changed_is_reported(machine, monkeypatch, kind):
    """This test's own check: each kind of change, made on purpose."""
    name, damage = DAMAGES[kind]
    before = machine.state()
    assert not _machine_state.differences(before, machine.state())
    with warnings.catch_warnings():
        damage(machine, monkeypatch)
        found = _machine_state.differences(before, machine.state())
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
            thread.join()
    gc.enable()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    machine.inside(torch.set_grad_enabled, True)
    assert any(name in line for line in found), found


def test_a_thread_that_ends_is_not_left(machine):
    """As one of another test's server, which answered when this one began."""
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()
    before = machine.state()
    ends.set()
    thread.join()
    assert not _machine_state.differences(before, machine.state())


SPOILT = {
    "pave_core.policies.adapter": ("LoraAdapter", "detach"),
    "nodes.host.policy.autograd.network": ("DifferentiableNetwork", "undo"),
    "nodes.host.policy.autograd.tensors": ("Tracked", "undo"),
}


@pytest.mark.parametrize("module", SPOILT)
def test_an_undo_that_is_forgotten_is_reported(host, modules, root, graphs, tmp_path, monkeypatch, module):
    owner, method = SPOILT[module]
    with standing(host, modules, root, tmp_path) as machine:
        monkeypatch.setattr(getattr(modules.module(module), owner), method, lambda _: None)
        _, changed = machine.changed_by(graphs["Pave Train"])
    assert any(line.startswith("MODEL.") for line in changed), changed
