"""Writes workflows/api/*.json, what the page exports from workflows/*.json: open each in the real page, save what it would send.

    python tools/export_workflows.py

Run it after changing a workflow, a preset or the inputs of a node; a browser test compares the two. Where a workflow's Pave Train
has a preset, its widgets are brought up to date with it first.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _browser import export_prompt, load_workflow, open_page
from _comfyui import link_pack
from _environment import Environment, prepare, rerun
from _package import ROOT
from _server import ComfyServer


def main() -> int:
    environment = prepare(tests=True)
    if Path(sys.prefix) != environment.python.parent.parent:
        # Playwright is in the private environment.
        return rerun(environment.python)
    export(environment)
    return 0


def export(environment: Environment) -> None:
    workflows = ROOT / "workflows"
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", ROOT)
        with ComfyServer(environment.python, environment.comfyui, base / "server.log", base=base) as server, open_page(server.url) as page:
            presets = json.loads(server.client().get("/pave/presets"))
            for file in sorted(workflows.glob("*.json")):
                apply_presets(file, presets)
                load_workflow(page, file)
                target = workflows / "api" / file.name
                target.write_text(json.dumps(export_prompt(page), indent=2) + "\n", encoding="utf-8")
                print(target.relative_to(ROOT))


def apply_presets(file: Path, presets: dict[str, dict[str, Any]]) -> None:
    """Write the values of the chosen preset into the widgets of every Pave Train of a UI-format workflow."""
    workflow = json.loads(file.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "PaveTrain":
            names = [socket["name"] for socket in node["inputs"] if "widget" in socket]
            values = dict(zip(names, node["widgets_values"], strict=True))
            node["widgets_values"] = list((values | presets.get(values["preset"], {})).values())
    file.write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
