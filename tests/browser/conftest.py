"""How the open workflow is laid out."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import pytest

from _editor import fit
from _panel_server import panel_server

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
        const width = e => e.getBoundingClientRect().width / scale
        for (const shown of leaves.filter(e => e.textContent.trim() === title)) {
            let frame = shown  // what cuts it: an element around it, whose width is that of a node or less
            while (frame !== element && getComputedStyle(frame).textOverflow !== "ellipsis") frame = frame.parentElement
            const text = document.createRange()
            text.selectNodeContents(shown)
            if (width(text) > width(frame) + 0.1) cut.push(title)
        }
    }
    const box = ({pos, size}) => [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]]
    return {nodes, groups: Object.fromEntries(app.graph.groups.map(g => [g.title, box(g)])), cut}
}"""
"""As Nodes 2.0 draws them: the boxes of its elements, and the titles that do not fit."""

CROSSED = """() => {
    app.canvas.draw(true, true)
    const pen = document.createElement("canvas").getContext("2d")
    Object.assign(pen, {lineWidth: 10, lineCap: "round"})  // a browser rounds long flat strokes by some pixels
    const inside = ([x, y], {pos, size}) => x > pos[0] + 3 && x < pos[0] + size[0] - 3
        && y > pos[1] - LiteGraph.NODE_TITLE_HEIGHT + 3 && y < pos[1] + size[1] - 3
    const bezier = (a, control, other, b) => Array.from({length: 61}, (_, i) => i / 60).map(t => [0, 1].map(side =>
        (1 - t) ** 3 * a[side] + 3 * (1 - t) ** 2 * t * control[side]
        + 3 * (1 - t) * t ** 2 * other[side] + t ** 3 * b[side]))
    const found = []
    for (const link of app.graph.links.values()) {
        const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
        const turns = link.constructor.getReroutes(app.graph, link)
        const ends = [from.getConnectionPos(false, link.origin_slot), to.getConnectionPos(true, link.target_slot)]
        const places = [ends[0], ...turns.map(turn => turn.pos), ends[1]]
        const way = places.slice(1).flatMap((b, i) => {
            const [a, before, after] = [places[i], turns[i - 1], turns[i]]
            const far = Math.hypot(b[0] - a[0], b[1] - a[1]) / 4
            const near = Math.min(before?.constructor.maxSplineOffset, far)
            const control = before ? [a[0] + near * before.cos, a[1] + near * before.sin] : [a[0] + far, a[1]]
            const other = after ? [b[0] + after.controlPoint[0], b[1] + after.controlPoint[1]] : [b[0] - far, b[1]]
            const points = bezier(a, control, other, b), drawn = (after ?? link).path
            const off = points.filter(point => !pen.isPointInStroke(drawn, ...point))
            if (off.length) found.push(`${from.title} -> ${to.title} is drawn elsewhere`)
            return points
        })
        const others = app.graph.nodes.filter(node => node !== from && node !== to)
        const under = others.filter(node => way.some(point => inside(point, node))).map(node => node.title)
        if (under.length) found.push(`${from.title} -> ${to.title} runs over ${under}`)
    }
    return found
}"""
"""Wires that run over nodes that they do not belong to, by the curves that the canvas draws."""


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


@pytest.fixture(scope="module")
def served():
    """The panel's page alone, with answers that the tests make: no ComfyUI runs."""
    with panel_server() as running:
        yield running


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

    def measure() -> list[str]:
        fit(page)  # what is out of sight is not drawn
        return page.evaluate(CROSSED)

    return measure


@pytest.fixture
def layout(page) -> Callable[[], Layout]:
    """Call it to measure the open workflow."""
    return lambda: Layout(**page.evaluate(BOXES))
