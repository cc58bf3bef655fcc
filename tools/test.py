"""Runs every check of the project: ruff, pyright, pip-audit, then pytest on core, host, tools and browser.

    python tools/test.py                      everything, pytest in two processes
    python tools/test.py tests/core -k sde    arguments go to pytest, in one process
    python tools/test.py tests/reliability -s --long    the long proofs too: kills, hostile prompts, thousands of steps
    python tools/test.py --fast               without server, browser, long runs, pyright and pip-audit
    python tools/test.py --comfyui PATH       pytest alone, against this ComfyUI instead of the private one

The environment is the quickstart's plus test tools. The exit code is 0 only when all of them pass.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(f"The tests need Python 3.10 or newer; this is Python {sys.version_info[0]}.{sys.version_info[1]}.")

import argparse
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from _audit import audit
from _host.browser import find_chromium
from _host.environment import prepare
from _host.package import ROOT
from _host.setup import SetupError

PRIVATE = ROOT / ".pave" / "comfyui"
TWO_PROCESSES = ["-n", "2", "--dist", "loadfile"]
"""Each with a server and a browser of its own."""
FAST = "not slow and not browser and not server"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, metavar="PATH", help="the ComfyUI to test against")
    parser.add_argument(
        "--fast", action="store_true", help="leave out server, browser, long runs, pyright and pip-audit"
    )
    args, pytest_args = parser.parse_known_args()
    try:
        environment = prepare(args.comfyui, tests=True)
    except SetupError as error:
        print(f"Set-up: {error}", file=sys.stderr)
        return 1
    if not args.fast:
        provide_chromium()

    def run(*command: str) -> bool:
        print(f"$ {' '.join(command)}", flush=True)
        env = {**os.environ, "COMFYUI_PATH": str(environment.comfyui)}
        return subprocess.run([str(environment.python), "-m", *command], cwd=ROOT, env=env).returncode == 0

    chosen = pytest_args or TWO_PROCESSES  # one process for who names tests: it shows what they print
    commands: list[tuple[str, ...]] = [("pytest", *(("-m", FAST) if args.fast else ()), *chosen)]
    if environment.comfyui == PRIVATE:  # what ruff and pyright read is the same with any other
        commands = [("ruff", "check", "."), *([] if args.fast else [("pyright",)]), *commands]
    audited = args.fast or environment.comfyui != PRIVATE or audit(environment.python)
    results = [run(*command) for command in commands]  # each runs whatever the others say; pytest's summary comes last
    return 0 if audited and all(results) else 1


def provide_chromium() -> None:
    """Install Debian's Chromium where that is possible, else say that the browser tests will be skipped."""
    if find_chromium():
        return
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        print("Chromium for the browser tests: apt-get install chromium ...", flush=True)
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("apt-get update -qq", "apt-get install -y -qq --no-install-recommends chromium"):
            done = subprocess.run(command.split(), env=env, **quiet)
            if done.returncode:
                print(f"{command} failed: {done.stderr.strip()}", flush=True)
    if not find_chromium():
        print("No Chromium or Chrome found: the browser tests will be skipped.")
        print("Install one, or name it in CHROMIUM_PATH.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
