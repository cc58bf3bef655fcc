"""The help of a node as a person opens it: select the node, press its info button."""

import json
from functools import partial

import pytest

from _editor import PACK
from _host.browser import until
from _host_differences import PROPERTIES_PANEL
from make_help import NODE_DEFS

pytestmark = pytest.mark.browser

SELECT = """type => {
    app.graph.clear()
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    app.canvas.ds.scale = 0.8
    app.canvas.ds.offset = [1300, 400]  // beside the panel that will open
    node.pos = [0, 0]
    app.canvas.selectNode(node)
    app.canvas.draw(true, true)
}"""
SHOWN_NAMES = """type => {
    const node = LiteGraph.createNode(type)
    const name = slot => slot.label ?? slot.localized_name ?? slot.name
    const settings = (node.widgets ?? []).filter(widget => widget.type !== "button")  // a button stands for no input
    return [node.title, node.inputs.map(name), settings.map(name), node.outputs.map(name)]
}"""


def test_the_info_button_shows_the_page_with_its_picture(page, artifacts):
    page.problems.clear()
    page.evaluate(SELECT, "PaveTrain")
    press = page.get_by_test_id("info-button").click
    content = page.locator(".node-help-content")
    until(page, "the help is open", lambda: content.count() == 1, press)
    content.get_by_role("heading", name="Pave Train").wait_for()
    assert "Cancel loses nothing" in content.inner_text()
    picture = content.locator("img")
    until(page, "the picture has come, or failed", lambda: picture.evaluate("image => image.complete"))
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.screenshot(path=artifacts / "help.png")
    deselect = partial(page.evaluate, "app.canvas.deselectAll()")
    close = deselect if page.locator(PROPERTIES_PANEL).count() else press
    until(page, "the help is closed", lambda: content.count() == 0, close)
    problems = [problem for problem in page.problems if PACK in problem]
    assert [problem for problem in problems if "/docs/PaveTrain/" not in problem] == []


def test_every_picture_of_the_help_loads(page, server):
    names = list(json.loads(NODE_DEFS.read_text(encoding="utf-8")))
    for name in names:
        response = page.request.get(f"{server.url}/extensions/comfyui-pave-grpo/docs/images/{name}.png")
        assert response.ok, name


def test_the_canvas_shows_the_ids_of_inputs_and_outputs(page):
    info = page.evaluate("async () => (await fetch('/object_info')).json()")
    for name in json.loads(NODE_DEFS.read_text(encoding="utf-8")):
        title, inputs, widgets, outputs = page.evaluate(SHOWN_NAMES, name)
        ids = {key for kind in ("required", "optional") for key in info[name]["input"].get(kind, {})}
        assert title == info[name]["display_name"]
        assert set(inputs) == ids
        assert set(widgets) - {"control_after_generate", "control after generate"} <= ids
        assert outputs == info[name]["output_name"]
