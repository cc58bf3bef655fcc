"""A person draws a training graph with the mouse and runs it: nodes from the search, wires, the Run button."""

import time
from functools import partial
from typing import Any

import pytest

from _editor import SET_WIDGETS, close_messages, images_of, run_workflow, wait_pictures
from _host.browser import until, wait_drawn
from _host_differences import FOUND_FIRST, HANGS_ON_POINTER, SEARCH_BOX

pytestmark = pytest.mark.browser

NODES = {  # type, and what its search finds it by, where to put it
    "PaveTinyModel": ("Pave Tiny Model", (150, 150)),
    "PavePrompts": ("Pave Prompts", (150, 330)),
    "PaveColour": ("Pave Colour", (150, 850)),
    "PaveTrain": ("Pave Train", (750, 130)),
    "PreviewImage": ("Preview Image", (1400, 200)),
}
WIRES = [  # from node, output, to node, input
    ("PaveTinyModel", "model", "PaveTrain", "model"),
    ("PaveTinyModel", "clip", "PaveTrain", "clip"),
    ("PaveTinyModel", "vae", "PaveTrain", "vae"),
    ("PavePrompts", "prompts", "PaveTrain", "prompts"),
    ("PaveColour", "reward", "PaveTrain", "reward"),
    ("PaveTrain", "curve", "PreviewImage", "images"),
]
SECONDS = {
    **{"width": 64, "height": 64, "iterations": 2, "group_size": 3, "steps": 4, "branch_steps": "0, 1"},
    **{"evaluation_seeds": 1},
}
"""Settings with which a run takes seconds."""

SOCKET = """([type, side, name]) => {
    const node = app.graph.nodes.find(n => n.type === type), canvas = app.canvas
    const place = (side === "output" ? node.outputs : node.inputs).findIndex(slot => slot.name === name)
    const [x, y] = node.getConnectionPos(side === "input", place)
    const [cx, cy] = canvas.ds.convertOffsetToCanvas([x, y]), frame = canvas.canvas.getBoundingClientRect()
    return [frame.left + cx, frame.top + cy]
}"""
COUNT = "type => app.graph.nodes.filter(n => n.type === type).length"
WIRED = """([source, output, target, input]) => [...app.graph.links.values()].some(link => {
    const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
    return from.type === source && from.outputs[link.origin_slot].name === output
        && to.type === target && to.inputs[link.target_slot].name === input
})"""


def double_click(page: Any, x: int, y: int) -> None:
    """Two clicks, 0.1 s apart by their time stamps, however long the page takes over each.

    The page goes by those stamps. Playwright's own double-click leaves them to the moment of sending: it is missed when
    a busy machine sends both clicks at the same tenth of a millisecond, or more than 0.3 s apart.
    """
    page.mouse.move(x, y)
    session = page.context.new_cdp_session(page)
    start = time.time()
    for count in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            stamp = start + 0.1 * (count - 1) + 0.02 * (kind == "mouseReleased")
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": count, "timestamp": stamp}
            session.send("Input.dispatchMouseEvent", event)
    session.detach()


def add_from_search(page: Any, kind: str, name: str, place: tuple[int, int]) -> None:
    """Double-click the empty canvas, type the node's name, take the first that is found."""
    box = page.locator(SEARCH_BOX).first
    until(page, "the node search is open", box.is_visible, lambda: double_click(page, *place))
    box.fill(name)
    until(page, f"the search has found {name}, for Enter to take", lambda: page.evaluate(FOUND_FIRST) == name)
    enter = partial(page.keyboard.press, "Enter")
    until(page, f"{name} is in the graph", lambda: page.evaluate(COUNT, kind) == 1, enter)
    until(page, "the node search is closed", lambda: not box.is_visible())
    if page.evaluate(HANGS_ON_POINTER):
        put_down = partial(page.mouse.click, *place)
        until(page, f"{name} is put down", lambda: not page.evaluate(HANGS_ON_POINTER), put_down)
    wait_drawn(page)


def wire(page: Any, source: str, output: str, target: str, name: str) -> None:
    """Drag from the output to the input."""

    def drag() -> None:
        start, end = page.evaluate(SOCKET, [source, "output", output]), page.evaluate(SOCKET, [target, "input", name])
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end, steps=8)
        page.mouse.up()

    there = f"{source}.{output} is wired to {target}.{name}"
    until(page, there, lambda: page.evaluate(WIRED, [source, output, target, name]), drag)
    wait_drawn(page)


def test_a_graph_drawn_by_hand_runs(page, client, artifacts):
    page.evaluate("app.graph.clear(); app.canvas.ds.reset()")
    wait_drawn(page)
    for kind, (name, place) in NODES.items():
        add_from_search(page, kind, name, place)
    for ends in WIRES:
        wire(page, *ends)
    assert page.evaluate("app.graph.nodes.length") == len(NODES)
    assert page.evaluate("app.graph.links.size") == len(WIRES)
    page.evaluate(SET_WIDGETS, SECONDS)
    wait_drawn(page)
    page.screenshot(path=artifacts / "drawn_by_hand.png")

    close_messages(page)
    run = run_workflow(page, client, page.get_by_test_id("queue-button").click)
    assert run["status"]["status_str"] == "success", run["status"]["messages"]
    assert images_of(run)
    wait_pictures(page, run)
    page.screenshot(path=artifacts / "drawn_by_hand_after_run.png")
