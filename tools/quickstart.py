"""Tune a LoRA with Pave-GRPO inside a real ComfyUI, from nothing.

    python tools/quickstart.py                   set up (once), train the bundled model, show what it learned
    python tools/quickstart.py --comfyui PATH    use this ComfyUI
    python tools/quickstart.py --serve           and leave the server up, with the workflow open in the browser

Needs Python 3.10 or newer and nothing else. Everything it installs is in the folder .pave of the pack.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(f"The quickstart needs Python 3.10 or newer; this is Python {sys.version_info[0]}.{sys.version_info[1]}.")

import argparse
import contextlib
import json
import time
import urllib.parse
import webbrowser
from pathlib import Path
from typing import Any

from _host.client import ComfyClient, PromptError
from _host.environment import prepare
from _host.package import ROOT
from _host.server import ComfyServer, ServerError, end_on_sigterm
from _host.setup import SetupError
from _host.training_run import Result, RunError, TrainingRun
from _workflows.names import api_file_of, file_of, template

STOPPED = 130  # what a shell reports for Ctrl-C


def main() -> int:
    args = parse_args()
    end_on_sigterm()
    try:
        return quickstart(args)
    except (SetupError, ServerError, PromptError, RunError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return STOPPED


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="an existing ComfyUI, instead of COMFYUI_PATH or a private one"
    )
    parser.add_argument("--serve", action="store_true", help="leave the server up and open the workflow in the browser")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the final table to FILE")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the training, instead of the workflow's")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps, instead of the workflow's")
    return parser.parse_args()


def quickstart(args: argparse.Namespace) -> int:
    environment = prepare(args.comfyui)
    workflow = json.loads(file_of("quickstart").read_text(encoding="utf-8"))
    prompt = json.loads(api_file_of("quickstart").read_text(encoding="utf-8"))
    override(prompt, seed=args.seed, iterations=args.steps)
    # With --serve the user sees their other packs as well; a plain run does without them.
    options = () if args.serve else ("--disable-all-custom-nodes", "--whitelist-custom-nodes", environment.pack)
    print(f"Starting ComfyUI in {environment.comfyui} ...", flush=True)
    with ComfyServer(environment.python, environment.comfyui, ROOT / ".pave" / "server.log", options=options) as server:
        with server.client() as client:
            check_pack(server, client, environment.pack)
            run = TrainingRun(client, prompt, server.output)
            try:
                finished = run.follow(workflow)
            except ConnectionError:
                raise ServerError(server.describe("ComfyUI went away")) from None
            if not finished:
                print(run.left_behind())
                return STOPPED
            result = run.result(client.version())
        report(result, args.json)
        if args.serve:
            serve(server, environment.pack)
    return 0


def check_pack(server: ComfyServer, client: ComfyClient, pack: str) -> None:
    """Raise ServerError, with what the server says about the pack, if it could not load the pack."""
    if "PaveTrain" not in client.object_info():
        log = server.log.read_text(encoding="utf-8", errors="replace")
        lines = ["ComfyUI could not load the pack:", *(line for line in log.splitlines() if pack in line)]
        raise ServerError("\n    ".join(lines) + f"\nThe whole log: {server.log}")


def override(prompt: dict[str, Any], **values: int | None) -> None:
    """Set inputs of the prompt's PaveTrain; None leaves the workflow's value."""
    (train,) = (node for node in prompt.values() if node["class_type"] == "PaveTrain")
    # The preset stays, as it also says what the node has no widget for.
    train["inputs"].update({name: value for name, value in values.items() if value is not None})


def report(result: Result, file: Path | None) -> None:
    """Print the table, and write it to `file` where one is given."""
    print(f"\n{result.table()}", flush=True)
    if file is not None:
        file.write_text(result.as_json() + "\n", encoding="utf-8")


def serve(server: ComfyServer, pack: str) -> None:
    """Keep the server up until Ctrl-C, with the quickstart's workflow open in the browser."""
    url = f"{server.url}/?{urllib.parse.urlencode({'template': template('quickstart'), 'source': pack})}"
    print(f"\nComfyUI is up: {url}\nCtrl-C ends it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        webbrowser.open(url)
        while server.running:
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
