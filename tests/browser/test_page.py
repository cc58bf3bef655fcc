"""What a person does in the page: choose a preset, and draw a training graph by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from _host.browser import load_workflow

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).resolve().parents[2] / "workflows" / "quickstart.json"

WIDGETS = "() => Object.fromEntries(app.graph.nodes.find(n => n.type === 'PaveTrain').widgets.map(w => [w.name, w.value]))"
SET_WIDGET = """([name, value]) => {
    const node = app.graph.nodes.find(n => n.type === 'PaveTrain')
    const widget = node.widgets.find(w => w.name === name)
    widget.value = value
    widget.callback?.(value, app.canvas, node)
}"""
SECONDS = {"width": 64, "height": 64, "iterations": 2, "group_size": 3, "steps": 4, "branch_steps": "0, 1", "evaluation_seeds": 1}
"""Settings with which a run takes seconds."""


def differences(page: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """{widget of Pave Train: (shown, expected)} where the two are not the same."""
    shown = page.evaluate(WIDGETS)
    return {widget: (shown[widget], value) for widget, value in expected.items() if shown[widget] != pytest.approx(value)}


def test_a_preset_fills_the_widgets(page, client):
    presets = json.loads(client.get("/pave/presets"))
    load_workflow(page, QUICKSTART)
    for name, expected in presets.items():
        page.evaluate(SET_WIDGET, ["preset", name])
        page.wait_for_timeout(300)
        assert differences(page, expected) == {}, name


def test_the_widgets_of_the_quickstart_show_its_preset(page, client):
    presets = json.loads(client.get("/pave/presets"))
    load_workflow(page, QUICKSTART)
    assert differences(page, presets[page.evaluate(WIDGETS)["preset"]]) == {}


def test_changing_a_setting_leaves_the_preset(page):
    load_workflow(page, QUICKSTART)
    page.evaluate(SET_WIDGET, ["preset", "quick"])
    page.wait_for_timeout(300)
    page.evaluate(SET_WIDGET, ["iterations", 7])
    shown = page.evaluate(WIDGETS)
    assert (shown["preset"], shown["iterations"]) == ("custom", 7)


DRAW = [  # node, and what its search finds it by
    ("PaveTinyModel", "Pave Tiny Model"),
    ("PavePrompts", "Pave Prompts"),
    ("PaveColour", "Pave Colour"),
    ("PaveTrain", "Pave Train"),
    ("PreviewImage", "Preview Image"),
]
WIRES = [  # from node, output, to node, input
    ("PaveTinyModel", "model", "PaveTrain", "model"),
    ("PaveTinyModel", "clip", "PaveTrain", "clip"),
    ("PaveTinyModel", "vae", "PaveTrain", "vae"),
    ("PavePrompts", "prompts", "PaveTrain", "prompts"),
    ("PaveColour", "reward", "PaveTrain", "reward"),
    ("PaveTrain", "curve", "PreviewImage", "images"),
]
SOCKET = """([type, side, name]) => {
    const node = app.graph.nodes.find(n => n.type === type), canvas = app.canvas
    const place = (side === "output" ? node.outputs : node.inputs).findIndex(slot => slot.name === name)
    const [x, y] = node.getConnectionPos(side === "input", place)
    const [cx, cy] = canvas.ds.convertOffsetToCanvas([x, y]), frame = canvas.canvas.getBoundingClientRect()
    return [frame.left + cx, frame.top + cy]
}"""


def add_from_search(page: Any, kind: str, name: str, x: int, y: int) -> None:
    """Double-click the empty canvas, type the node's name, take the first that is found."""
    page.mouse.dblclick(x, y)
    box = page.locator(".p-autocomplete-input, .comfy-vue-node-search-container input").first
    box.wait_for()
    box.fill(name)
    page.locator(".p-autocomplete-option, .p-autocomplete-item", has_text=name).first.wait_for()
    page.wait_for_timeout(500)
    page.keyboard.press("Enter")
    page.wait_for_function(f"app.graph.nodes.some(n => n.type === '{kind}')")
    page.wait_for_timeout(500)


def test_a_graph_drawn_by_hand_runs(page, client, artifacts):
    """Nodes from the search, wires by the mouse, Run by its button."""
    page.evaluate("app.graph.clear(); app.canvas.ds.reset()")
    places = {"PaveTinyModel": (150, 150), "PavePrompts": (150, 330), "PaveColour": (150, 850), "PaveTrain": (750, 130), "PreviewImage": (1400, 200)}
    for kind, name in DRAW:
        add_from_search(page, kind, name, *places[kind])
    for source, output, target, name in WIRES:
        start, end = page.evaluate(SOCKET, [source, "output", output]), page.evaluate(SOCKET, [target, "input", name])
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end, steps=8)
        page.mouse.up()
        page.wait_for_timeout(200)
    assert page.evaluate("app.graph.links.size") == len(WIRES)
    for widget, value in SECONDS.items():
        page.evaluate(SET_WIDGET, [widget, value])
    page.screenshot(path=artifacts / "drawn_by_hand.png")

    done = set(json.loads(client.get("/history")))
    page.locator("[data-testid=queue-button], .queue-button-group button, .comfyui-queue-button button").first.click()
    for _ in range(120):
        page.wait_for_timeout(1_000)
        new = [entry for prompt_id, entry in json.loads(client.get("/history")).items() if prompt_id not in done]
        if new:
            break
    assert new[0]["status"]["status_str"] == "success", new[0]["status"]["messages"]
    assert [image for output in new[0]["outputs"].values() for image in output.get("images", ())]
    page.wait_for_timeout(2_000)
    page.screenshot(path=artifacts / "drawn_by_hand_after_run.png")
