"""Measures every flow architecture of a ComfyUI, and writes the table of it into docs/MODELS.md.

    python tools/make_models_table.py                    of the private ComfyUI
    python tools/make_models_table.py --comfyui PATH     of this one: each version has a table of its own

It runs tests/host/test_models.py, which leaves its numbers in tests/artifacts/models.json. The exit code is 0 only when
all of them pass; what failed has an empty cell.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _host.environment import prepare
from _host.package import ROOT
from _host.setup import SetupError

TEST = "tests/host/test_models.py"
MEASURED = ROOT / "tests" / "artifacts" / "models.json"
DOC = ROOT / "docs" / "MODELS.md"
END = "<!-- the end of the tables -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, metavar="PATH", help="the ComfyUI to measure")
    args = parser.parse_args()
    try:
        environment = prepare(args.comfyui, tests=True)
    except SetupError as error:
        print(f"Set-up: {error}", file=sys.stderr)
        return 1
    MEASURED.unlink(missing_ok=True)
    env = {**os.environ, "COMFYUI_PATH": str(environment.comfyui)}
    done = subprocess.run([str(environment.python), "-m", "pytest", "-q", TEST], cwd=ROOT, env=env)
    measured = json.loads(MEASURED.read_text("utf-8"))
    DOC.write_text(with_table(DOC.read_text("utf-8"), measured["comfyui"], section(measured)), "utf-8")
    print(f"docs/MODELS.md: {len(measured['rows'])} architectures of ComfyUI {measured['comfyui']}")
    return done.returncode


def with_table(text: str, version: str, table: str) -> str:
    """`text` with the table of a version of ComfyUI, in place of an older one or as the last."""
    begin = f"<!-- ComfyUI {version}: written by tools/make_models_table.py -->\n"
    others = re.sub(re.escape(begin) + r".*?(?=<!-- )", "", text, flags=re.DOTALL)
    return others.replace(END, f"{begin}\n{table}\n\n{END}")


def section(measured: Mapping[str, Any]) -> str:
    """The table of what was measured, and what is left out with its reasons, as Markdown."""
    reasons: dict[str, list[str]] = {}
    for name, reason in measured["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    left_out = [f"- {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    heading = f"### ComfyUI {measured['comfyui']}"
    return "\n".join([heading, "", markdown(measured["rows"]), "", "Not trained:", "", *left_out])


def _difference(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}"


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "velocity": ("sampling", _difference),
    "gradient": ("gradient", _difference),
    "checkpointing": ("checkpointing", _difference),
    "fp8": ("fp8", _difference),
    "layers": ("layers", lambda hit: " / ".join(map(str, hit))),
    "idle": ("left out", str),
    "lora": ("LoRA", str),
}
"""{key of a row: (title of its column, how its value is shown)}."""


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """{architecture: its row} as a Markdown table; what a row does not have stays empty."""
    head = ["architecture", *(title for title, _ in COLUMNS.values())]
    body = [
        [name, *(show(row[key]) if key in row else "" for key, (_, show) in COLUMNS.items())]
        for name, row in rows.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])


if __name__ == "__main__":
    sys.exit(main())
