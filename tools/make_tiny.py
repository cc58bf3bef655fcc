"""Build the bundled tiny model (assets/tiny) from a seed, on a CPU.

    python tools/make_tiny.py [--seed N] [--only STAGE] [--comfyui PATH]

Stages in order: vae, classifier, clip, flow, decoder, preference; then README.md is written from the metrics that each
file carries in its metadata. A stage reads the files of the stages before it, so that --only can redo a single one;
decoder takes what vae left, so that it cannot be done twice. `--effort 0.1` is a tenth of the training, to check that
it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from _host.package import ROOT, load_core

STAGES = ("vae", "classifier", "clip", "flow", "decoder", "preference")


def main() -> int:
    if find_spec("torch") is None:
        from _host.environment import prepare, rerun

        return rerun(prepare().python)
    parser = argparse.ArgumentParser(description="Build the bundled tiny model (assets/tiny) from a seed, on a CPU.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=(*STAGES, "report"), help="redo one stage with the files that are there")
    parser.add_argument("--effort", type=float, default=1.0, help="factor on the number of training steps")
    parser.add_argument("--threads", type=int, default=2)
    comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".pave" / "comfyui"))
    parser.add_argument("--comfyui", type=Path, default=comfyui)
    options = parser.parse_args()
    _import_host(options.comfyui)
    load_core()

    import torch

    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)

    from _tiny import classifier, clip, decoder, flow, preference, report, vae
    from _tiny.common import TINY

    TINY.mkdir(parents=True, exist_ok=True)
    train = (vae.train, classifier.train, clip.train, flow.train, decoder.train, preference.train)
    for number, (stage, run) in enumerate(zip(STAGES, train, strict=True)):
        if options.only in (None, stage):
            run(seed=1000 * (10 * options.seed + number), effort=options.effort)
    report.write(options.seed)
    return 0


def _import_host(comfyui: Path) -> None:
    if not (comfyui / "comfy" / "sd.py").is_file():
        sys.exit(f"--comfyui: {comfyui} is not a ComfyUI folder: give its path, or run tools/quickstart.py once")
    sys.path.append(str(comfyui))
    from comfy.cli_args import args

    args.cpu = True
    args.use_pytorch_cross_attention = True


if __name__ == "__main__":
    sys.exit(main())
