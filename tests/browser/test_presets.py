"""A person chooses a preset of Pave Train, or leaves it by changing a setting."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from _host.browser import load_workflow, until

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).resolve().parents[2] / "workflows" / "quickstart.json"

WIDGETS = """() => {
    const node = app.graph.nodes.find(n => n.type === "PaveTrain")
    return Object.fromEntries(node.widgets.map(w => [w.name, w.value]))
}"""
CHOOSE = """([name, value]) => {
    const node = app.graph.nodes.find(n => n.type === "PaveTrain")
    const widget = node.widgets.find(w => w.name === name)
    widget.value = value
    widget.callback?.(value, app.canvas, node)
}"""


@pytest.fixture(scope="module")
def presets(server) -> dict[str, dict[str, Any]]:
    """{preset: {widget: value}} of Pave Train as the pack tells them to the page."""
    return json.loads(server.client().get("/pave/presets"))["PaveTrain"]


def differences(page: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """{widget of Pave Train: (shown, expected)} where the two are not the same."""
    shown = page.evaluate(WIDGETS)
    return {
        widget: (shown[widget], value) for widget, value in expected.items() if shown[widget] != pytest.approx(value)
    }


def choose(page: Any, preset: str, values: dict[str, Any]) -> None:
    """Choose a preset; the widgets come to show its values."""
    page.evaluate(CHOOSE, ["preset", preset])
    with suppress(TimeoutError):
        until(page, f"preset {preset} is shown", lambda: differences(page, values) == {})
    assert differences(page, values) == {}, preset


def test_a_preset_fills_the_widgets(page, presets):
    load_workflow(page, QUICKSTART)
    for name, expected in presets.items():
        choose(page, name, expected)


def test_the_widgets_of_the_quickstart_show_its_preset(page, presets):
    load_workflow(page, QUICKSTART)
    assert differences(page, presets[page.evaluate(WIDGETS)["preset"]]) == {}


def test_changing_a_setting_leaves_the_preset(page, presets):
    load_workflow(page, QUICKSTART)
    for name in ("paper", "quick"):  # two, because the quickstart shows the second when it opens
        choose(page, name, presets[name])
    page.evaluate(CHOOSE, ["iterations", 7])
    shown = page.evaluate(WIDGETS)
    assert (shown["preset"], shown["iterations"]) == ("custom", 7)


MEMORY = """() => {
    app.graph.clear()
    const node = LiteGraph.createNode("PaveMemory")
    app.graph.add(node)
    return node.id
}"""
CHOOSE_MEMORY = """([name, value]) => {
    const widget = app.graph.nodes[0].widgets.find(w => w.name === name)
    widget.value = value
    widget.callback?.(value, app.canvas, app.graph.nodes[0])
}"""
SHOWN_MEMORY = "() => Object.fromEntries(app.graph.nodes[0].widgets.map(w => [w.name, w.value]))"


def test_the_presets_of_memory_fill_theirs(page, server):
    presets = json.loads(server.client().get("/pave/presets"))["PaveMemory"]
    assert list(presets) == ["8 GB", "12 GB", "16 GB", "24 GB"]
    page.evaluate(MEMORY)
    for name, values in presets.items():
        page.evaluate(CHOOSE_MEMORY, ["preset", name])
        expected = values | {"preset": name}
        until(page, f"preset {name} is shown", lambda e=expected: page.evaluate(SHOWN_MEMORY) == e)
    page.evaluate(CHOOSE_MEMORY, ["offload", 0.3])
    until(page, "the preset is left", lambda: page.evaluate(SHOWN_MEMORY)["preset"] == "custom")
    assert page.evaluate(SHOWN_MEMORY)["offload"] == 0.3
