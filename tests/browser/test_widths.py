"""New nodes are wide enough for their titles."""

import json

import pytest

from _host.browser import nodes_2, until, wait_drawn
from make_help import NODE_DEFS

pytestmark = pytest.mark.browser

ADD = """types => {
    app.graph.clear()
    types.forEach((type, i) => {
        const node = LiteGraph.createNode(type)
        node.id = 1000 + i  // 1.32 keeps the layout of a node that is gone for the next one of its id
        node.pos = [Math.floor(i / 8) * 700, (i % 8) * 1500]
        app.graph.add(node)
    })
    app.canvas.ds.scale = 0.1
    app.canvas.ds.offset = [1000, 1000]
    app.canvas.setDirty(true, true)
}"""


def test_the_titles_of_new_nodes_are_not_cut_in_nodes_2(page, drawn_layout):
    names = list(json.loads(NODE_DEFS.read_text(encoding="utf-8")))
    with nodes_2(page):
        page.evaluate(ADD, names)
        until(page, "all nodes are drawn", lambda: len(drawn_layout().nodes) == len(names))
        wait_drawn(page)
        assert drawn_layout().cut == ()
