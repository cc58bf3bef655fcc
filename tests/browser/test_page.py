"""What a person does in the page: choose a preset, and draw a training graph by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from _browser import load_workflow

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).resolve().parents[2] / "workflows" / "quickstart.json"

WIDGETS = "() => Object.fromEntries(app.graph.nodes.find(n => n.type === 'PaveTrain').widgets.map(w => [w.name, w.value]))"
SET_WIDGET = """([name, value]) => {
    const node = app.graph.nodes.find(n => n.type === 'PaveTrain')
    const widget = node.widgets.find(w => w.name === name)
    widget.value = value
    widget.callback?.(value, app.canvas, node)
}"""
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
