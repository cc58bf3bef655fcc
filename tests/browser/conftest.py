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


@dataclass(frozen=True)
class Layout:
    """Where the open workflow's nodes, with their title bars, and groups are."""

    nodes: dict[str, Box]
    groups: dict[str, Box]

    def problems(self) -> list[str]:
        """Nodes that overlap, groups that overlap, nodes outside every group."""
        pairs = [pair for boxes in (self.nodes, self.groups) for pair in combinations(boxes.items(), 2)]
        found = [f"{a} and {b} overlap" for (a, here), (b, there) in pairs if overlap(here, there)]
        groups = self.groups.values()
        alone = [name for name, box in self.nodes.items() if not any(inside(box, group) for group in groups)]
        return found + [f"{name} is in no group" for name in alone]


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a: Box, b: Box) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


@pytest.fixture
def layout(page) -> Callable[[], Layout]:
    """Call it to measure the open workflow."""
    return lambda: Layout(**page.evaluate(BOXES))
