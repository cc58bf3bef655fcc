"""Writes the pictures and the names that the help of the nodes needs, from the real server and its page.

    python tools/make_help.py

web/docs/images/<NodeId>.png    each node alone on an empty canvas, for web/docs/<NodeId>.md
locales/en/nodeDefs.json        names and tooltips in the form that the host gives the page: the base of a translation
README.md                       the tables of settings, the list of presets
docs/OPTIONS.md                 the options of the method
web/docs/PaveMemory.md          the table of the presets of memory

Run it after changing the schema of a node, a setting, a preset or what excludes what; a test compares the texts.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _host.browser import open_page
from _host.environment import Environment, prepare, rerun
from _host.package import ROOT, load_core
from _host.throwaway import throwaway_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

PREFIX = "Pave"
DOCS = ROOT / "web" / "docs"
NODE_DEFS = ROOT / "locales" / "en" / "nodeDefs.json"
README = ROOT / "README.md"
OPTIONS_PAGE = ROOT / "docs" / "OPTIONS.md"
MEMORY_PAGE = DOCS / "PaveMemory.md"
TABLE = ("<!-- the settings: written by tools/make_help.py -->\n", "<!-- the end of the settings -->\n")
OTHERS_TABLE = (
    "<!-- the other settings: written by tools/make_help.py -->\n",
    "<!-- the end of the other settings -->\n",
)
PRESETS_TABLE = ("<!-- the presets: written by tools/make_help.py -->\n", "<!-- the end of the presets -->\n")
MOST_OPTIONS = 6  # that are named in the table
SCALE = 2
MARGIN = 8  # around a node, in units of the canvas
COLOURS = 127

EXAMPLE_LORA = Path("output", "loras", "pave", "quickstart_00001.safetensors")
"""An empty file, so that the list of Pave LoRA Recipe is not empty."""

ONLY_THE_CANVAS = """async () => {
    await app.extensionManager.setting.set("Comfy.NodeBadge.NodeSourceBadgeMode", "None")
    app.canvas.background_image = null
}"""
SHOW = """([type, scale, margin]) => {
    app.graph.clear()
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [0, 0]
    node.setSize([Math.max(node.size[0], 300, 0.4 * node.size[1]), node.size[1]])
    const corner = [200, 100]  // clear of the page's bars
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = [corner[0] + margin, corner[1] + margin + LiteGraph.NODE_TITLE_HEIGHT]
    app.canvas.deselectAll?.()
    app.canvas.draw(true, true)
    const [x, y] = corner.map(length => length * scale)
    const size = [node.size[0] + 2 * margin, node.size[1] + LiteGraph.NODE_TITLE_HEIGHT + 2 * margin]
    const [width, height] = size.map(length => length * scale)
    const canvas = app.canvas.canvas.getBoundingClientRect()
    return {x: canvas.x + x, y: canvas.y + y, width, height}
}"""


def main() -> int:
    environment = prepare(tests=True)
    if Path(sys.prefix) != environment.python.parent.parent:
        # Playwright is in the private environment.
        return rerun(environment.python)
    load_core()
    make(environment)
    return 0


def make(environment: Environment) -> None:
    """Write nodeDefs.json and the pictures."""
    with throwaway_server(environment) as server:
        lora = server.folder / EXAMPLE_LORA
        lora.parent.mkdir(parents=True)
        lora.touch()
        info = server.client().object_info()
        NODE_DEFS.parent.mkdir(parents=True, exist_ok=True)
        NODE_DEFS.write_text(node_defs_text(info), encoding="utf-8")
        print(NODE_DEFS.relative_to(ROOT))
        presets = json.loads(server.client().get("/pave/presets"))["PaveTrain"]
        for file, text in pages(info, presets).items():
            file.write_text(text, encoding="utf-8")
            print(file.relative_to(ROOT))
        with open_page(server.url, 1600, 2800) as page:
            draw_nodes(page, our_nodes(info))


def our_nodes(info: Mapping[str, Any]) -> list[str]:
    """The ids of the pack's nodes in the host's /object_info."""
    return sorted(name for name in info if name.startswith(PREFIX))


def node_defs(info: Mapping[str, Any]) -> dict[str, Any]:
    """nodeDefs.json of the pack's nodes, from the host's /object_info.

    Inputs are named by their ids, as on the canvas.
    """
    return {name: _node_def(info[name]) for name in our_nodes(info)}


def node_defs_text(info: Mapping[str, Any]) -> str:
    """nodeDefs.json as text."""
    return json.dumps(node_defs(info), indent=2, ensure_ascii=False) + "\n"


def inputs_of(node: Mapping[str, Any]) -> dict[str, str]:
    """{id: tooltip} of a node in /object_info, without what the host fills in itself."""
    return {
        name: (spec[1] if len(spec) > 1 else {}).get("tooltip", "")
        for kind in ("required", "optional")
        for name, spec in node["input"].get(kind, {}).items()
    }


def outputs_of(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, tooltip) of a node in /object_info."""
    return [(name, tooltip or "") for name, tooltip in zip(node["output_name"], node["output_tooltips"], strict=True)]


def pages(info: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> dict[Path, str]:
    """{file: its text} of the pages with tables, from /object_info and the part of Pave Train of /pave/presets."""
    from _options import options_page, preset_list

    readme = with_table(README.read_text(encoding="utf-8"), settings_table(info, presets))
    readme = with_table(readme, other_settings_table(info), OTHERS_TABLE)
    return {
        README: with_table(readme, preset_list(), PRESETS_TABLE),
        OPTIONS_PAGE: options_page(),
        MEMORY_PAGE: with_table(MEMORY_PAGE.read_text(encoding="utf-8"), memory_table(), PRESETS_TABLE),
    }


def settings_table(info: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of Pave Train as a Markdown table, from /object_info and its part of /pave/presets."""
    released, quick = next(iter(presets.values())), presets["quick"]
    rows = [("setting", "released code", "quick", "range", "what it does"), ("---",) * 5]
    for name, said in _widgets(info["PaveTrain"]).items():
        first = _cell(released.get(name, said["default"]))
        second = _cell(quick[name]) if name in quick else ""
        rows.append((name, first, second, _range(name, said), said["tooltip"]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def other_settings_table(info: Mapping[str, Any]) -> str:
    """The settings that Pave Train does not show, likewise."""
    rows = [("setting", "node", "default", "range", "what it does"), ("---",) * 5]
    for node in ("PaveRolloutSettings", "PaveObjective", "PaveOptimizer"):
        for name, said in _widgets(info[node]).items():
            if name not in _widgets(info["PaveTrain"]):
                default = _cell(said["default"])
                rows.append((name, info[node]["display_name"], default, _range(name, said), said["tooltip"]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _widgets(node: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{widget: its options} of a node in /object_info, without presets."""
    inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    kinds = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
    return {name: more[0] for name, (kind, *more) in inputs.items() if kind in kinds and name != "preset"}


def memory_table() -> str:
    """The presets of memory as a Markdown table."""
    from pave_core.config.fields import shown
    from pave_core.config.presets import FLUX_GB, MEMORY_PRESETS

    rows = [
        {
            "card": name,
            "weight_dtype": preset.weight_dtype(FLUX_GB),
            **shown(preset.memory()),
            "batch_size": preset.batch_size,
            "rank": preset.rank,
        }
        for name, preset in MEMORY_PRESETS.items()
    ]
    lines = [tuple(rows[0]), ("---",) * len(rows[0]), *(map(_cell, row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(text: str, table: str, marks: tuple[str, str] = TABLE) -> str:
    """A page's text with the table between its marks. ValueError if they are not there."""
    before, mark, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (mark and end):
        raise ValueError(f"the marks {marks[0].strip()} and {marks[1].strip()} are not there")
    return f"{before}{mark}{table}{end}{after}"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


def _range(name: str, said: Mapping[str, Any]) -> str:
    if "min" in said:
        return f"{_cell(said['min'])} to {_cell(said['max'])}"
    options = said.get("options", ())
    return ", ".join(options) if name != "resume" and len(options) <= MOST_OPTIONS else ""


def _node_def(node: Mapping[str, Any]) -> dict[str, Any]:
    def texts(name: str, tooltip: str) -> dict[str, str]:
        return {"name": _message(name), "tooltip": _message(tooltip)}

    made = {
        "display_name": _message(node["display_name"]),
        "description": _message(node["description"]),
        "inputs": {name.replace(".", "_"): texts(name, tooltip) for name, tooltip in inputs_of(node).items()},
        "outputs": {str(index): texts(*output) for index, output in enumerate(outputs_of(node))},
    }
    return {key: value for key, value in made.items() if value}


def _message(text: str) -> str:
    """A text as a message of vue-i18n, which gives these characters a meaning of their own."""
    return re.sub(r"[{}@$|]", lambda found: "{'" + found[0] + "'}", text)


def draw_nodes(page: Page, names: list[str]) -> None:
    """Write a picture of every node, and remove those of nodes that no longer exist."""
    folder = DOCS / "images"
    folder.mkdir(parents=True, exist_ok=True)
    page.evaluate(ONLY_THE_CANVAS)
    page.mouse.move(1, 1)
    for name in names:
        box = page.evaluate(SHOW, [name, SCALE, MARGIN])
        page.wait_for_timeout(400)  # text fields are elements of the page, which follow the canvas
        file = folder / f"{name}.png"
        file.write_bytes(compressed(page.screenshot(clip=box)))
        print(f"{file.relative_to(ROOT)} {file.stat().st_size / 1000:.0f} kB")
    for file in folder.glob("*.png"):
        if file.stem not in names:
            file.unlink()
            print(f"{file.relative_to(ROOT)} removed")


def compressed(png: bytes) -> bytes:
    """The picture with a palette; MAXCOVERAGE keeps the colours of the small dots."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    palette = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    palette.save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    sys.exit(main())
