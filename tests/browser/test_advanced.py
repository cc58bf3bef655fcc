"""The settings for experts: folded away until a person asks for them, in both front ends, and saved in their places."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from _host.browser import PATIENCE, export_prompt, load_workflow, nodes_2, until, wait_drawn
from _host_differences import FOLD, NUMBER_FIELD, UNFOLD
from _workflows.names import file_of

pytestmark = pytest.mark.browser

QUICKSTART = file_of("quickstart")
TEN = [
    *("preset", "iterations", "learning_rate", "batch_size", "width", "height", "cfg"),
    *("run_name", "resume", "evaluate_every"),
]
ALL = """() => app.graph.nodes.find(n => n.type === "PaveTrain").widgets.filter(w => w.type !== "button").length"""
SEEN = """() => {
    const node = app.graph.nodes.find(n => n.type === "PaveTrain")
    return node.widgets.filter(w => node.isWidgetVisible(w) && w.type !== "button").map(w => w.name)
}"""
VALUES = "() => app.graph.serialize().nodes.find(n => n.type === 'PaveTrain').widgets_values"
SIZE = "() => [...app.graph.nodes.find(n => n.type === 'PaveTrain').size]"
BUTTON = """() => {
    const node = app.graph.nodes.find(n => n.type === "PaveTrain")
    app.canvas.ds.scale = 0.5
    app.canvas.ds.offset = [600 - node.pos[0], 300 - node.pos[1]]
    app.canvas.draw(true, true)
    const button = node.widgets.find(w => w.type === "button")
    const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] + button.y + 10])
    const {left, top} = app.canvas.canvas.getBoundingClientRect()
    return [left + x, top + y]
}"""
"""Where the button is on the page, after it was brought into view."""
WIRE_SEED = """() => {
    const node = app.graph.nodes.find(n => n.type === "PaveTrain"), source = LiteGraph.createNode("PrimitiveInt")
    app.graph.add(source)
    source.connect(0, node, node.inputs.findIndex(i => i.name === "seed"))
}"""
PROMOTE = """name => {
    const outside = app.graph.convertToSubgraph(new Set([app.graph.nodes.find(n => n.type === "PaveTrain")])).node
    const node = outside.subgraph.nodes.find(n => n.type === "PaveTrain")
    const slot = node.getSlotFromWidget(node.widgets.find(w => w.name === name))
    outside.subgraph.addInput(name, String(slot.type)).connect(slot, node)
}"""
PROMOTED = """() => {
    const outside = app.graph.nodes.find(n => n.subgraph)
    app.canvas.draw(true, true)
    return outside.widgets.filter(w => outside.isWidgetVisible(w) && w.y > 0 && w.computedHeight > 10).map(w => w.name)
}"""
"""Of the subgraph's widgets, those that take room on it."""


def click_button(page: Any) -> None:
    page.mouse.click(*page.evaluate(BUTTON))


@pytest.fixture
def quickstart(page):
    load_workflow(page, QUICKSTART)
    return page


def test_the_canvas_shows_ten_and_the_rest_at_a_click(quickstart):
    page = quickstart
    values, sent, folded = page.evaluate(VALUES), export_prompt(page), page.evaluate(SIZE)
    assert page.evaluate(SEEN) == TEN
    every = page.evaluate(ALL)
    assert len(values) == every > 30
    until(page, "all are shown", lambda: len(page.evaluate(SEEN)) == every, lambda: click_button(page))
    assert page.evaluate(SIZE)[1] >= folded[1] + 20 * (every - len(TEN))
    assert (page.evaluate(VALUES), export_prompt(page)) == (values, sent)
    page.evaluate("() => app.loadGraphData(app.graph.serialize())")
    wait_drawn(page)
    assert len(page.evaluate(SEEN)) == every, "a graph that was saved open is open"
    assert page.evaluate(VALUES) == values
    until(page, "ten are shown", lambda: page.evaluate(SEEN) == TEN, lambda: click_button(page))
    assert page.evaluate(SIZE) == pytest.approx(folded, abs=2)


def test_nodes_2_shows_ten_and_the_rest_at_a_click(page):
    with nodes_2(page):
        load_workflow(page, QUICKSTART)
        values = page.evaluate(VALUES)
        node = page.locator(f"[data-node-id='{train_of(QUICKSTART)}']")
        seen = {name: node.locator(NUMBER_FIELD.format(name=name)) for name in ("evaluate_every", "weight_decay")}
        expect(seen["evaluate_every"]).to_have_count(1, timeout=PATIENCE * 1000)
        expect(seen["weight_decay"]).to_have_count(0)

        def click(text: str) -> None:
            page.evaluate(BUTTON)  # brings it into view
            node.get_by_text(text).first.click()

        until(page, "all are shown", lambda: seen["weight_decay"].count() == 1, lambda: click(UNFOLD))
        assert page.evaluate(VALUES) == values
        until(page, "ten are shown", lambda: seen["weight_decay"].count() == 0, lambda: click(FOLD))
        assert page.evaluate(VALUES) == values


def train_of(file: Path) -> int:
    return next(node["id"] for node in json.loads(file.read_text("utf-8"))["nodes"] if node["type"] == "PaveTrain")


def test_a_wired_setting_is_always_shown(quickstart):
    quickstart.evaluate(WIRE_SEED)
    assert sorted(quickstart.evaluate(SEEN)) == sorted([*TEN, "seed"])
    quickstart.evaluate("() => app.loadGraphData(app.graph.serialize())")
    wait_drawn(quickstart)
    assert sorted(quickstart.evaluate(SEEN)) == sorted([*TEN, "seed"])


def test_a_setting_on_a_subgraph_is_shown(quickstart):
    quickstart.evaluate(PROMOTE, "seed")
    until(quickstart, "the seed is on the subgraph", lambda: "seed" in quickstart.evaluate(PROMOTED))


def test_a_wire_to_a_shown_setting_reaches_that_one(quickstart):
    """Sockets of folded settings take no wires: they are where nobody can point at."""
    reached = quickstart.evaluate(
        """() => {
            const node = app.graph.nodes.find(n => n.type === "PaveTrain")
            app.canvas.draw(true, true)
            const width = node.inputs.find(i => i.name === "width")
            const height = input => node.getConnectionPos(true, node.inputs.indexOf(input))[1]
            const near = input => input.widget && Math.abs(height(input) - height(width)) < 10
            return node.inputs.filter(near).map(input => input.name)
        }"""
    )
    assert reached == ["width"]
