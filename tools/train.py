"""Train a recipe without a graph: in one process, or in several on one machine or many.

    python tools/train.py RECIPE                                the recipe: JSON, a LoRA of this pack, or a run's folder
    python tools/train.py RECIPE --resume pave_00001            go on with a run
    python tools/train.py RECIPE --processes 2 --cpu            two processes on this machine
    accelerate launch --num_processes 8 tools/train.py RECIPE   one process a GPU; others: docs/clusters

Models are files of a ComfyUI, or folders of diffusers pipelines, which need no ComfyUI. Ctrl-C and SIGTERM save
everything and say how to go on. What is in a recipe and how processes share the work: docs/SCALING.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from _host.environment import prepare, rerun
from _host.install import find_comfyui
from _host.package import ROOT
from _host.server import has_accelerator
from _host.setup import SetupError

SIGNALLED = 128  # what a shell adds to the number of a signal


def main() -> int:
    args = parse_args()
    try:
        if find_spec("torch") is None:
            return rerun(prepare(args.comfyui).python)
        comfyui = None if args.models else find_comfyui(args.comfyui, ROOT) or private_comfyui()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    if args.processes > 1 and "RANK" not in os.environ:
        launch(args.processes)
    args.cpu |= os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    return train(args, comfyui)


def private_comfyui() -> Path | None:
    """That which tools/quickstart.py gets, if it has."""
    path = ROOT / ".pave" / "comfyui"
    return path if (path / "main.py").is_file() else None


def train(args: argparse.Namespace, comfyui: Path | None) -> int:
    """Train in this process, which may be one of several; the exit code."""
    from _cuda import host

    if comfyui is not None:
        host.start(comfyui, comfyui, cpu=args.cpu or not has_accelerator(Path(sys.executable)))
    from _train import models, recipe, world
    from _train.run import StopRequestedError, run

    PaveError = host.pack_module("pave_core.errors").PaveError
    who = f"process {world.rank()}: " if world.rank() else ""
    try:
        said = run(
            recipe.read(args.recipe),
            models.files_of_comfyui(comfyui, args.output)
            if comfyui
            else models.files_of_folder(args.models, args.output),
            resume=args.resume,
            folder=args.model,
            cpu=args.cpu,
            consent={"allow_remote": args.allow_remote_judge, "key_variable": args.judge_key},
        )
    except StopRequestedError as stopped:
        import signal

        print(f"{who}{stopped}: go on with --resume and the name that the log says", file=sys.stderr)
        return SIGNALLED + signal.Signals[str(stopped)].value
    except PaveError as error:
        print(f"{who}{error}", file=sys.stderr)
        return 1
    if not who:
        print(f"\n{said}", flush=True)
    return 0


def launch(count: int) -> NoReturn:
    """Become the launcher of `count` processes of this program on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    # Not as a child: signals are for the launcher, which passes them on.
    os.execve(sys.executable, [*launcher, *sys.argv], environment)  # noqa: S606


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="JSON, a LoRA of this pack or a run's folder")
    parser.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="its models and code (default: COMFYUI_PATH, or a private one)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a diffusers pipeline, instead of the files in the recipe"
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="leave ComfyUI out: diffusers, reward_models, clip_vision and text_encoders are in this folder",
    )
    parser.add_argument("--resume", default="none", metavar="RUN", help="go on with the run of this name")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for runs and LoRAs (default: that of ComfyUI, or ./output)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="start N processes on this machine")
    parser.add_argument("--cpu", action="store_true", help="leave the GPUs alone")
    parser.add_argument(
        "--allow-remote-judge", action="store_true", help="let a judge be on another machine, one of PAVE_JUDGE_HOSTS"
    )
    parser.add_argument("--judge-key", default="", metavar="NAME", help="the environment variable with a judge's key")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
