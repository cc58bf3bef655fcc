"""Does training work on this machine's card, how fast, and in how much memory? In about six minutes, without a network.

    python tools/cuda_check.py                           all parts
    python tools/cuda_check.py --comfyui PATH --here     this ComfyUI, under the Python that runs this; installs nothing
    python tools/cuda_check.py --only sample,flux-fp8    some parts

Parts: quickstart (through the real server), sample (KSampler, then training), flux-fp8, sd35 and flux-bf16 (models of
random weights in the shapes of FLUX.1-dev and SD3.5 medium: seconds and peak memory by phase, stand-ins for smaller
cards, gradients with and without checkpointing). Without a card everything runs in miniature on the CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from _cuda.parts import Report, run_parts
from _cuda.plans import PARTS, parts_named
from _cuda.table import table
from _host.environment import Environment, prepare
from _host.install import LINK_NAME, find_comfyui
from _host.package import ROOT
from _host.server import end_on_sigterm
from _host.setup import SetupError


def main() -> int:
    args = parse_args()
    if args.measure is not None:
        from _cuda.child import measure

        job = json.loads(args.measure)
        return measure(Path(job["comfyui"]), job["names"], cpu=job["cpu"], seconds=job["seconds"])
    end_on_sigterm()
    try:
        environment = here(args.comfyui) if args.here else prepare(args.comfyui)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report = Report(args.out, args.minutes)
    run_parts(environment, args.only, report, args.out.with_suffix(".log"))
    print(f"\n{table(report.found)}\n\nWritten to {args.out}; what ComfyUI said is in {args.out.with_suffix('.log')}")
    return 1 if any(part["status"] == "failed" for part in report.found["parts"].values()) else 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="an existing ComfyUI, instead of COMFYUI_PATH or a private one"
    )
    parser.add_argument("--here", action="store_true", help="use the Python that runs this, and install nothing")
    parser.add_argument(
        "--only",
        type=_parts,
        default=list(PARTS),
        metavar="PART[,PART]",
        help=f"some of {', '.join(part.name for part in PARTS)}",
    )
    parser.add_argument(
        "--minutes", type=float, default=6.0, metavar="N", help="what there is no time for is skipped (default: 6)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / ".pave" / "cuda_check.json", metavar="FILE", help="the JSON to write"
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # how it calls itself, for a part in a program of its own
    return parser.parse_args()


def _parts(names: str) -> list:
    try:
        return parts_named(names.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def here(comfyui: Path | None) -> Environment:
    """The environment that is there: this Python, and the user's ComfyUI. SetupError if there is none."""
    found = find_comfyui(comfyui, ROOT)
    if found is None:
        raise SetupError("--here needs a ComfyUI: give --comfyui PATH")
    return Environment(Path(sys.executable), found, LINK_NAME)


if __name__ == "__main__":
    sys.exit(main())
