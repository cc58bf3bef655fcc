"""Reward hacking with and without a guard: the colour reward alone, on the bundled model, in the real server.

    python tools/guard_demo.py                  two runs; their curves become docs/guard_off.png and docs/guard_on.png
    python tools/guard_demo.py --steps 30       fewer steps

The guard watches a CLIP score and the drift. Nothing watches adherence, the judge: it shows whether the guard acted in
time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from _host.environment import prepare
from _host.package import ROOT
from _host.throwaway import throwaway_server
from _workflows.parts import CAPTIONS, WARM


def main() -> int:
    args = parse_args()
    environment = prepare()
    with throwaway_server(environment, options=("--disable-api-nodes",)) as server:
        for name, guarded in (("guard_off", False), ("guard_on", True)):
            with server.client() as client:
                client.run(graph(name, guarded, args))
            run = server.output / "pave" / f"{name}_00001"
            shutil.copy(run / "curve.png", args.output / f"{name}.png")
            report(name, run)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name: str, default: Any, metavar: str, text: str) -> None:
        parser.add_argument(name, type=type(default), default=default, metavar=metavar, help=text)

    add("--steps", 50, "N", "training steps")
    add("--seed", 0, "N", "seed of the training")
    add("--learning-rate", 1e-3, "X", "the learning rate; the quickstart's is 7e-4, which hacks more slowly")
    add("--every", 2, "N", "steps between two measurements")
    add("--max-drop", 0.2, "X", "the guard's threshold for the CLIP score")
    add("--max-drift", 0.015, "X", "the guard's threshold for the drift from the base model")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs", metavar="FOLDER", help="where the two curves are written"
    )
    return parser.parse_args()


def graph(name: str, guarded: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The training as a prompt of the host: the settings of `quick`, except where an argument gives another."""

    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    train = {
        **{"model": ["tiny", 0], "clip": ["tiny", 1], "vae": ["tiny", 2]},
        **{"prompts": ["prompts", 0], "reward": ["colour", 0], "judge": ["judge", 0]},
        **{"preset": "custom", "iterations": args.steps, "prompts_per_step": 4, "seed": args.seed},
        **{"learning_rate": args.learning_rate, "weight_decay": 1e-4, "max_grad_norm": 1.0, "warmup_steps": 0},
        **{"rank": 8, "alpha": 16.0, "targets": "attention + MLP", "init": "gaussian"},
        **{"steps": 8, "branch_steps": "0, 2, 4", "group_size": 8, "eta": 0.8, "segments": "2, 3"},
        **{"advantage_clip": 5.0, "batch_size": 64, "optimizer_step": "accumulated"},
        **{"width": 64, "height": 64, "cfg": 1.0, "negative_prompt": "", "guidance": 3.5, "scheduler": "simple"},
        **{"run_name": name, "resume": "none", "checkpoint_every": 20},
        **{"evaluation_seeds": 16, "evaluate_every": args.every, "check_reward": True},
    }
    scorer = {"checkpoint": "bundled tiny CLIP", "architecture": "auto", "precision": "fp32", "batch_size": 16}
    limits = {"max_drop": args.max_drop, "max_drift": args.max_drift, "max_change": 0.0}
    made = {
        "tiny": node("PaveTinyModel"),
        "prompts": node("PavePrompts", text=CAPTIONS, file="none", held_out=0.2, seed=0),
        "colour": node("PaveColour", **WARM),
        "judge": node("PaveTinyAdherence"),
        "train": node("PaveTrain", **train),
    }
    if guarded:
        made["clip"] = node("PaveCLIPScore", **scorer)
        made["guard"] = node("PaveGuard", held_out=["clip", 0], every=args.every, action="stop", **limits)
        made["train"]["inputs"]["guard"] = ["guard", 0]
    return made


def report(name: str, run: Path) -> None:
    """Print a line per measurement: colour reward, adherence and what the guard watches."""
    print(name)
    for each in json.loads((run / "evaluations.json").read_text(encoding="utf-8")):
        held_out = "" if each["held_out"] is None else f"   CLIP score {each['held_out']:.4f}"
        print(f"    step {each['step']:3}   colour {each['reward']:.4f}   adherence {each['judge']:.1%}{held_out}")
    guard = json.loads((run / "summary.json").read_text(encoding="utf-8"))["guard"]
    if guard:
        print(f"    stopped: {guard['stopped']}\n    the result is that of step {guard['chosen']}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
