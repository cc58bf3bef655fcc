"""The smallest whole runs, as graphs, and what they leave behind: to be compared with the run that nothing befell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file

from _toy import same
from _training_graphs import Graph, composed, looped, node

STEPS = 8
RUN = "small_00001"
KINDS = ("plain", "guarded", "drawn")
MEASURED = ("steps", "reward_before", "reward_after", "judge_before", "judge_after", "guard", "held_out_images")
"""The keys of summary.json that do not depend on the clock or the folder."""


def small(kind: str, *, resume: str = "none", iterations: int = STEPS, name: str = "small", every: int = 2) -> Graph:
    """A run in Pave Train, the same with guard, judge and evaluations, or a drawn loop; its last node is `end`.

    iterations: of the whole run; of a drawn loop, those that it makes.
    """
    settings = {
        "prompts_per_step": 1,
        "seed": 3,
        "run_name": name,
        "resume": resume,
        "checkpoint_every": every,
        "evaluation_seeds": 2,
        "evaluate_every": 3 if kind == "guarded" else 0,
    }
    wires = {key: [key, 0] for key in ("policy", "prompts", "rollout", "objective", "optimizer")}
    graph = looped(name) if kind == "drawn" else composed()
    graph["rollout"]["inputs"] |= {"steps": 3, "group_size": 2}
    graph["reward"] = graph["colour"]
    del graph["colour"], graph["clip"]
    if kind == "drawn":
        graph["begin"] = node("PaveBegin", **wires | settings, reward=["reward", 0])
        graph["loop"]["inputs"]["iterations"] = iterations
        graph["end_of_loop"] = graph.pop("end")
        graph["finish"]["inputs"]["state"] = ["end_of_loop", 0]
        graph["trained"] = graph.pop("finish")
    else:
        graph["trained"] = node("PaveTrainAdvanced", **wires | settings, iterations=iterations, reward=["reward", 0])
    if kind == "guarded":
        graph["judge"] = node("PaveColour", red=0.0, green=0.5, blue=1.0, softness=0.5)
        graph["guard"] = node(
            "PaveGuard", every=2, action="lower learning rate", max_drop=1.5, max_drift=0.0, max_change=0.1
        )
        graph["trained"]["inputs"] |= {"judge": ["judge", 0], "guard": ["guard", 0]}
    summary = 4 if kind == "drawn" else 5
    graph["end"] = node("PreviewAny", source=["trained", summary])
    return graph


def lines(file: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file, without the clock."""
    if not file.exists():
        return []
    records = map(json.loads, file.read_text("utf-8").splitlines())
    return [{key: value for key, value in record.items() if key not in ("seconds", "memory")} for record in records]


def header(file: Path, key: str) -> dict[str, Any]:
    """A JSON value in the header of a safetensors file."""
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()[key])


def lora_of(output: Path, run: str = RUN) -> Path:
    return output / "loras" / "pave" / f"{run}.safetensors"


def left(output: Path, run: str = RUN) -> dict[str, Any]:
    """Everything that a finished run leaves, without the clock and the place."""
    folder = output / "pave" / run
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    evaluations = json.loads((folder / "evaluations.json").read_text("utf-8"))
    state = header(folder / "checkpoint.safetensors", "pave")
    return {
        "checkpoint": load_file(folder / "checkpoint.safetensors"),
        "state": {key: state[key] for key in ("step", "counters", "recipe", "running")},
        "lora": load_file(lora_of(output, run)),
        "recipe": header(lora_of(output, run), "pave_recipe"),
        "metrics": lines(folder / "metrics.jsonl"),
        "evaluations": evaluations,
        "guard": lines(folder / "guard.jsonl"),
        "summary": {key: summary[key] for key in MEASURED if key in summary},
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The parts of left() that are not equal bit for bit. A drawn loop's iterations tell its last graph, no more."""
    found = []
    for part in one:
        if part in ("checkpoint", "lora"):
            equal = same(one[part], other[part])
        else:
            equal = _fixed(one[part]) == _fixed(other[part])
        if not equal:
            found.append(part)
    return found


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fixed(item) for key, item in value.items() if key != "iterations"}
    return [_fixed(item) for item in value] if isinstance(value, list) else value


def step_of(output: Path, run: str = RUN) -> int | None:
    """The step of the newest checkpoint of a run, the previous one included; None without any."""
    folder = output / "pave" / run
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        if (folder / name).is_file():
            return header(folder / name, "pave")["step"]
    return None


def table(title: str, rows: list[tuple[Any, ...]]) -> None:
    """Print rows under a title, one a line."""
    print(f"\n{title}")
    for row in rows:
        print("  " + " | ".join(str(cell) for cell in row))
