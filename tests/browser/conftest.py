"""How the open workflow is laid out."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import pytest

Box = tuple[float, float, float, float]  # left, top, right, bottom

BOXES = """() => {
    const box = (pos, size, above) => [pos[0], pos[1] - above, pos[0] + size[0], pos[1] + size[1]]
    const nodes = app.graph.nodes.map(n => [`${n.id} ${n.title}`, box(n.pos, n.size, LiteGraph.NODE_TITLE_HEIGHT)])
    const groups = app.graph.groups.map(g => [g.title, box(g.pos, g.size, 0)])
    return {nodes: Object.fromEntries(nodes), groups: Object.fromEntries(groups)}
}"""


DRAWN = """() => {
    const {scale, offset} = app.canvas.ds, frame = app.canvas.canvas.getBoundingClientRect()
    const at = (value, side) => (value - (side ? frame.top : frame.left)) / scale - offset[side]
    const nodes = {}, cut = []
    for (const element of document.querySelectorAll("[data-node-id]")) {
        const {id, title} = app.graph.getNodeById(element.dataset.nodeId), r = element.getBoundingClientRect()
        nodes[`${id} ${title}`] = [at(r.left, 0), at(r.top, 1), at(r.right, 0), at(r.bottom, 1)]
        const leaves = [...element.querySelectorAll("*")].filter(e => !e.children.length)
        const shown = leaves.filter(e => e.textContent.trim() === title)
        if (shown.some(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)) cut.push(title)
    }
    const box = ({pos, size}) => [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]]
    return {nodes, groups: Object.fromEntries(app.graph.groups.map(g => [g.title, box(g)])), cut}
}"""
"""As Nodes 2.0 draws them: the boxes of its elements, and the titles that do not fit."""

CROSSED = """() => {
    const inside = ([x, y], {pos, size}) => x > pos[0] + 3 && x < pos[0] + size[0] - 3
        && y > pos[1] - LiteGraph.NODE_TITLE_HEIGHT + 3 && y < pos[1] + size[1] - 3
    const found = []
    for (const link of app.graph.links.values()) {
        const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
        const [x0, y0] = from.getConnectionPos(false, link.origin_slot)
        const [x1, y1] = to.getConnectionPos(true, link.target_slot)
        const far = Math.hypot(x1 - x0, y1 - y0) / 4
        const weights = t => [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t ** 2, t ** 3]
        const bezier = (t, ...points) => weights(t).reduce((sum, weight, i) => sum + weight * points[i], 0)
        const way = Array.from({length: 61}, (_, i) => i / 60)
            .map(t => [bezier(t, x0, x0 + far, x1 - far, x1), bezier(t, y0, y0, y1, y1)])
        const others = app.graph.nodes.filter(node => node !== from && node !== to)
        const under = others.filter(node => way.some(point => inside(point, node))).map(node => node.title)
        if (under.length) found.push(`${from.title} -> ${to.title} runs over ${under}`)
    }
    return found
}"""
"""Wires that run over nodes that they do not belong to, by the curve that the canvas draws."""


@dataclass(frozen=True)
class Layout:
    """Where the open workflow's nodes, with their title bars, and groups are."""

    nodes: dict[str, Box]
    groups: dict[str, Box]
    cut: tuple[str, ...] = ()  # titles that do not fit

    def problems(self) -> list[str]:
        """Nodes that overlap, groups that overlap, nodes outside every group."""
        pairs = [pair for boxes in (self.nodes, self.groups) for pair in combinations(boxes.items(), 2)]
        found = [f"{a} and {b} overlap" for (a, here), (b, there) in pairs if overlap(here, there)]
        groups = self.groups.values()
        alone = [name for name, box in self.nodes.items() if not any(inside(box, group) for group in groups)]
        return [*found, *(f"{name} is in no group" for name in alone), *(f"{title} is cut" for title in self.cut)]


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a: Box, b: Box) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


@pytest.fixture
def drawn_layout(page) -> Callable[[], Layout]:
    """Call it to measure the open workflow as Nodes 2.0 draws it, by whole pixels."""

    def measure() -> Layout:
        found = page.evaluate(DRAWN)
        # Half a pixel of rounding on each side is none of ours.
        nodes = {name: (box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1) for name, box in found["nodes"].items()}
        return Layout(nodes, found["groups"], tuple(found["cut"]))

    return measure


@pytest.fixture
def crossed(page) -> Callable[[], list[str]]:
    """Call it for the wires of the open workflow that run over nodes."""
    return lambda: page.evaluate(CROSSED)


@pytest.fixture
def layout(page) -> Callable[[], Layout]:
    """Call it to measure the open workflow."""
    return lambda: Layout(**page.evaluate(BOXES))
