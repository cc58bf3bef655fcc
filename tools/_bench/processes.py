"""Weak scaling: a training step of one process, and of two with the same work each.

    alone           one process with P prompts a step
    side by side    two of these at once, which exchange nothing: what the machine gives two programs, the floor
    together        two processes with 2 P prompts a step, by tools/train.py --processes 2

In turns, so that what else the machine does falls on all alike. Seconds are those of the fastest step of a run, which
other programs have disturbed least.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from _host.package import ROOT

PROMPTS = [
    f"a {colour} {shape} on a dark background" for colour in ("red", "blue", "green") for shape in ("star", "circle")
]
STEPS = 16
KINDS = ("alone", "side by side", "together")


def recipe(prompts_per_step: int, shard: str) -> dict[str, Any]:
    """A recipe of the bundled model at the quickstart's sizes."""
    return {
        "config": {
            "rollout": {"steps": 4, "branch_steps": [0, 1], "group_size": 8, "batch_size": 64},
            "lora": {"rank": 16, "alpha": 32.0},
            "run": {"iterations": STEPS, "prompts_per_step": prompts_per_step},
        },
        "reward": {
            "rewards": [{"name": "colour", "red": 1.0, "green": 0.75, "blue": 0.4, "softness": 0.5}],
            "weights": [1.0],
            "normalise": "within group",
        },
        "prompts": PROMPTS,
        "held_out": PROMPTS[:2],
        "sampling": {"width": 64, "height": 64, "scheduler": "simple"},
        "run": {"evaluation_seeds": 1, "check_reward": False, "check_gradient": False},
        "processes": {"shard": shard},
    }


def measured_rounds(comfyui: Path, rounds: int, prompts: int = 4) -> Iterator[dict[str, dict[str, float]]]:
    """{kind: seconds by phase, and of the whole "step"} of each round."""
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            yield {kind: _measured(kind, comfyui, Path(folder) / kind, prompts) for kind in KINDS}


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """The rounds as a table of Markdown, with the ratios to the floor."""
    lines = ["|  | " + " | ".join(KINDS) + " |", "| --- |" + " ---: |" * len(KINDS)]
    for phase in ("step", "rollout", "decode", "reward", "update", "optimizer", "exchange"):
        cells = (f"{median(each[kind].get(phase, 0.0) for each in rounds):.4f}" for kind in KINDS)
        lines.append(f"| {phase} | {' | '.join(cells)} |")
    for name, below in (("of one process alone", "alone"), ("of two side by side", "side by side")):
        ratios = sorted(each[below]["step"] / each["together"]["step"] for each in rounds)
        lines.append(f"\nstep {name} / together: median {median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}")
    return "\n".join(lines)


def _measured(kind: str, comfyui: Path, folder: Path, prompts: int) -> dict[str, float]:
    outputs = [folder / name for name in (("a", "b") if kind == "side by side" else ("a",))]
    more = ("--processes", "2") if kind == "together" else ()
    processes = [_started(comfyui, output, prompts * (2 if more else 1), more) for output in outputs]
    codes = [process.wait(600) for process in processes]
    if any(codes):
        raise RuntimeError(f"{kind}: tools/train.py ended with {codes}")
    found = [_seconds(output) for output in outputs]
    return max(found, key=lambda seconds: seconds["step"])


def _started(comfyui: Path, output: Path, prompts: int, more: tuple[str, ...]) -> subprocess.Popen[bytes]:
    output.mkdir(parents=True)
    file = output / "recipe.json"
    file.write_text(json.dumps(recipe(prompts, "prompts")), encoding="utf-8")
    tool = [sys.executable, str(ROOT / "tools" / "train.py"), str(file), "--comfyui", str(comfyui), "--cpu"]
    with (output / "log").open("wb") as log:
        return subprocess.Popen(
            [*tool, "--output", str(output), *more],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _seconds(output: Path) -> dict[str, float]:
    """Seconds by phase, and of the whole, of a run's fastest step. The first, which warms up, does not count."""
    text = (output / "pave" / "pave_00001" / "metrics.jsonl").read_text(encoding="utf-8")
    steps = [json.loads(line)["seconds"] for line in text.splitlines()][1:]
    fastest = min(steps, key=lambda step: sum(step.values()))
    return {**fastest, "step": sum(fastest.values())}
