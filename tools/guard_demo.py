"""Reward hacking with and without a guard: the colour reward alone, on the bundled model, in the real server.

    python tools/guard_demo.py                  two runs; their curves become docs/guard_off.png and docs/guard_on.png
    python tools/guard_demo.py --steps 30       fewer steps

The guard watches a CLIP score and the drift. Adherence, the judge, is watched by nobody: it shows whether the guard acted in time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from _host.environment import prepare
from _host.install import link_pack
from _host.package import ROOT
from _host.server import ComfyServer
from _workflows.parts import CAPTIONS, WARM


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="training steps")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the training")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="X", help="the rate; the quickstart's is 5e-4, which hacks more slowly")
    parser.add_argument("--every", type=int, default=2, metavar="N", help="steps between two measurements")
    parser.add_argument("--max-drop", type=float, default=0.2, metavar="X", help="the guard's threshold for the CLIP score")
    parser.add_argument("--max-drift", type=float, default=0.015, metavar="X", help="the guard's threshold for the drift from the base model")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="FOLDER", help="where the two curves go")
    args = parser.parse_args()
    environment = prepare()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", ROOT)
        with ComfyServer(environment.python, environment.comfyui, base / "server.log", base=base, options=("--disable-api-nodes",)) as server:
            for name, guarded in (("guard_off", False), ("guard_on", True)):
                with server.client() as client:
                    client.run(graph(name, guarded, args))
                run = server.output / "pave" / f"{name}_00001"
                shutil.copy(run / "curve.png", args.output / f"{name}.png")
                report(name, run)
    return 0


def graph(name: str, guarded: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The training as a prompt of the host; `quick` in all but what is named here."""

    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    train = {
        **{"model": ["tiny", 0], "clip": ["tiny", 1], "vae": ["tiny", 2], "prompts": ["prompts", 0], "reward": ["colour", 0], "judge": ["judge", 0]},
        **{"preset": "custom", "iterations": args.steps, "prompts_per_step": 4, "learning_rate": args.learning_rate, "rank": 8, "alpha": 16.0},
        **{"targets": "attention + MLP", "steps": 8, "branch_steps": "0, 2, 4", "group_size": 8, "eta": 0.8, "segments": "2, 3"},
        **{"advantage_clip": 5.0, "batch_size": 64, "checkpoint_every": 20, "init": "gaussian", "weight_decay": 1e-4, "max_grad_norm": 1.0},
        **{"warmup_steps": 0, "optimizer_step": "accumulated", "seed": args.seed, "width": 64, "height": 64, "cfg": 1.0, "run_name": name},
        **{"resume": "none", "negative_prompt": "", "guidance": 3.5, "scheduler": "simple", "evaluation_seeds": 16, "evaluate_every": args.every},
        "check_reward": True,
    }
    watch = {"every": args.every, "action": "stop", "max_drop": args.max_drop, "max_drift": args.max_drift, "max_change": 0.0}
    made = {
        "tiny": node("PaveTinyModel"),
        "prompts": node("PavePrompts", text=CAPTIONS, file="none", held_out=0.2, seed=0),
        "colour": node("PaveColour", **WARM),
        "judge": node("PaveTinyAdherence"),
        "train": node("PaveTrain", **train),
    }
    if guarded:
        made["clip"] = node("PaveCLIPScore", checkpoint="bundled tiny CLIP", architecture="auto", precision="fp32", batch_size=16)
        made["guard"] = node("PaveGuard", held_out=["clip", 0], **watch)
        made["train"]["inputs"]["guard"] = ["guard", 0]
    return made


def report(name: str, run: Path) -> None:
    """One line a measurement: colour reward, adherence and what the guard watches."""
    print(name)
    for each in json.loads((run / "evaluations.json").read_text(encoding="utf-8")):
        held_out = "" if each["held_out"] is None else f"   CLIP score {each['held_out']:.4f}"
        print(f"    step {each['step']:3}   colour {each['reward']:.4f}   adherence {each['judge']:.1%}{held_out}")
    guard = json.loads((run / "summary.json").read_text(encoding="utf-8"))["guard"]
    if guard:
        print(f"    stopped: {guard['stopped']}\n    what comes out is of step {guard['chosen']}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
