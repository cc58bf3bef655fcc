"""What a person does to the widgets of a node on the classic canvas: choose in a list by clicks, type a number.

A node is given as JavaScript that finds it, such as TRAIN.
"""

from __future__ import annotations

from typing import Any

from _host.browser import until, wait_drawn

TRAIN = "app.graph.nodes.find(n => n.type === 'PaveTrain')"
SUBGRAPH = "(app.rootGraph ?? app.graph).nodes.find(n => n.subgraph)"  # from within it, too

INTO_VIEW = """name => {
    const node = NODE, {ds, canvas} = app.canvas, widget = node.widgets.find(each => each.name === name)
    if (node.graph !== app.canvas.graph) app.canvas.setGraph(node.graph)
    ds.scale = 1
    app.canvas.draw(true, true)  // places the widgets
    ds.offset = [900 - node.pos[0], 500 - node.pos[1] - widget.y]
    app.canvas.draw(true, true)
    const middle = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + (widget.computedHeight ?? 20) / 2]
    const [x, y] = ds.convertOffsetToCanvas(middle), {left, top} = canvas.getBoundingClientRect()
    return node.isWidgetVisible(widget) ? [left + x, top + y] : null
}"""
"""The middle of a widget on the page, once it is in view; null if it is folded away."""
TO_THE_TOP = "() => app.canvas.setGraph(app.rootGraph ?? app.graph)"
VALUES = "() => Object.fromEntries(NODE.widgets.map(widget => [widget.name, widget.value]))"
UNFOLD = "more settings"


def shown_on(page: Any, node: str) -> dict[str, Any]:
    """{widget: value} of a node."""
    return page.evaluate(VALUES.replace("NODE", node))


def click_widget(page: Any, node: str, name: str) -> None:
    """Click on a widget, after the button that unfolds it if need be."""
    into_view = INTO_VIEW.replace("NODE", node)
    if page.evaluate(into_view, name) is None:
        click_widget(page, node, UNFOLD)
    wait_drawn(page)
    page.mouse.click(*page.evaluate(into_view, name))


def choose_on_canvas(page: Any, node: str, name: str, choice: str) -> None:
    """Choose in a list."""
    entry = page.locator(".litemenu-entry").get_by_text(choice, exact=True)
    until(page, f"{choice} is in the list", lambda: entry.count() == 1, lambda: click_widget(page, node, name))
    entry.click()
    until(page, "the list is closed", lambda: entry.count() == 0)


def type_on_canvas(page: Any, node: str, name: str, text: str) -> None:
    """Type a number."""
    field = page.locator(".graphdialog input")
    until(page, f"{name} can be typed", lambda: field.count() == 1, lambda: click_widget(page, node, name))
    field.fill(text)
    field.press("Enter")
    until(page, f"{name} is {text}", lambda: shown_on(page, node)[name] == float(text))
    page.evaluate(TO_THE_TOP)
