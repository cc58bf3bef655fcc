"""How fast is training beside the bare network, how does its cost grow, and what does which setting teach?

    python tools/bench.py speed                   a training step by phase, beside the network alone
    python tools/bench.py speed --model flux      a model of FLUX.1-dev's shape, on a card
    python tools/bench.py scaling                 how both grow with G, T, S, |K| and the size of the image
    python tools/bench.py learning                the experiments on the bundled model, several at once
    python tools/bench.py learning --only segments --minutes 8
    python tools/bench.py tails                   do cheaper tails rank the images of a group as full tails do?
    python tools/bench.py processes               what two processes cost beside one
    python tools/bench.py gradients               do finer steps teach anything else than plain ones?
    python tools/bench.py person                  what do sixty clicks of a simulated person teach?
    python tools/bench.py report                  docs/BENCHMARKS.md and its plots, from what was measured

Uses the quickstart's environment (COMFYUI_PATH or --comfyui for another ComfyUI, --here for the Python that runs this).
Speed and scaling run where the host would train, on the card if there is one; learning on the CPU, one thread a run.
What is measured goes to .pave/bench/, or to the file that --json names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from _bench.settings import parsed
from _host.environment import Environment, prepare
from _host.install import LINK_NAME, find_comfyui
from _host.package import ROOT
from _host.server import end_on_sigterm
from _host.setup import SetupError

RESULTS = ROOT / ".pave" / "bench"
MODELS = ("tiny", "flux", "sd35")


def main() -> int:
    args = parse_args()
    if args.inside is None:
        end_on_sigterm()
        try:
            environment = here(args.comfyui) if args.here else prepare(args.comfyui)
        except SetupError as error:
            print(error, file=sys.stderr)
            return 1
        script = [str(environment.python), str(Path(__file__).resolve()), *sys.argv[1:]]
        process = subprocess.Popen([*script, "--inside", str(environment.comfyui)])
        try:
            return process.wait()
        finally:
            process.terminate()  # nothing where it has ended
    from _bench import commands

    return getattr(commands, args.command)(args)


def here(comfyui: Path | None) -> Environment:
    """The environment that is there: this Python, and the user's ComfyUI. SetupError if there is none."""
    found = find_comfyui(comfyui, ROOT)
    if found is None:
        raise SetupError("--here needs a ComfyUI: give --comfyui PATH")
    return Environment(Path(sys.executable), found, LINK_NAME)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, file: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--comfyui", type=Path, metavar="PATH", help="an existing ComfyUI")
        made.add_argument("--here", action="store_true", help="use the Python that runs this, and install nothing")
        made.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # how it calls itself in the environment
        made.add_argument(
            "--json", type=Path, default=RESULTS / file, metavar="F", help=f"the results (default: .pave/bench/{file})"
        )
        return made

    speed = command("speed", "a training step by phase, beside the network alone", "speed.json")
    _add_subject(speed)
    speed.add_argument("--pairs", type=int, default=7, metavar="N", help="pairs of a step and a floor")

    scaling = command("scaling", "how step and floor grow with G, T, S, |K| and the size of the image", "scaling.json")
    _add_subject(scaling)
    scaling.add_argument("--pairs", type=int, default=3, metavar="N", help="pairs of a step and a floor at each point")
    scaling.add_argument("--only", nargs="+", default=(), metavar="NAME", help="some of G, T, S, K, pixels")
    scaling.add_argument("--most", type=int, metavar="N", help="the first N points of each")
    scaling.add_argument("--plot", type=Path, default=ROOT / "docs" / "bench_scaling.png", metavar="F", help="the plot")

    processes = command("processes", "one process, two side by side, and two that train together", "processes.json")
    processes.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of the three (default: 5)")

    tails = command("tails", "do cheaper tails rank the images of a group as full tails do?", "tails.json")
    _add_subject(tails)
    tails.add_argument("--prompts", type=int, default=12, metavar="N", help="one rollout each (default: 12)")

    gradients = command("gradients", "how alike are the gradients of plain steps and of finer ones?", "gradients.json")
    _add_subject(gradients)
    gradients.add_argument("--prompts", type=int, default=16, metavar="N", help="one rollout each (default: 16)")

    person = command("person", "what do sixty clicks of a simulated person teach?", "person.json")
    person.add_argument("--seeds", type=int, default=5, metavar="N", help="runs, with a person each (default: 5)")
    _add_subject(person)

    learning = command("learning", "the experiments on the bundled model, several at once", "learning.jsonl")
    learning.add_argument("--only", nargs="+", default=(), metavar="NAME", help="some comparisons or experiments")
    learning.add_argument("--seeds", type=int, default=8, metavar="N", help="seeds of each experiment (default: 8)")
    learning.add_argument("--workers", type=int, metavar="N", help="runs at once (default: one a core)")
    learning.add_argument("--minutes", type=float, metavar="N", help="stop then; the next call goes on from there")
    learning.add_argument("--scale", type=float, default=1.0, metavar="X", help="of the images of each run; 1 counts")
    learning.add_argument("--list", action="store_true", help="name the experiments and what is left to run, and end")

    report = command("report", "docs/BENCHMARKS.md and its plots, from what was measured", "learning.jsonl")
    report.add_argument("more", type=Path, nargs="*", metavar="F", help="further results of learning: other machines'")
    report.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER", help="where they are written")
    return parser.parse_args()


def _add_subject(command: argparse.ArgumentParser) -> None:
    """Add the options that say what is measured, and where."""
    command.add_argument("--cpu", action="store_true", help="leave the card alone")
    command.add_argument(
        "--model", choices=MODELS, default="tiny", help="the bundled one, or a shape of random weights"
    )
    command.add_argument(
        "--set",
        type=parsed,
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        dest="settings",
        help="another setting of the TrainConfig, such as rollout.steps=4",
    )


if __name__ == "__main__":
    sys.exit(main())
