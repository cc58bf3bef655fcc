"""A workflow as it is written down: nodes by column and group, wires by name.

The page turns it into a file (make_workflows.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Out:
    """An output of a node."""

    node: int
    name: str | None  # None: the first


@dataclass(frozen=True)
class Ref:
    """A node; `ref["name"]` is its output of that name, `ref` itself its first."""

    id: int

    def __getitem__(self, name: str) -> Out:
        return Out(self.id, name)


@dataclass
class Workflow:
    """Groups stand side by side in rows, or under another; within a group, nodes fill columns from top to bottom."""

    name: str
    cover: tuple[str, ...] = ()  # the first characters of the titles of the groups that the thumbnail shows; empty: all
    result: str = (
        ""  # the title of the preview whose pictures, after a run, are the thumbnail instead; empty: the graph
    )
    cut: tuple[str, tuple[int, int, int, int]] | None = None  # or a picture in docs/, and left, top, right and bottom
    nodes: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    _row: int = 0
    _column: int = 0

    def row(self) -> None:
        """The next groups go into a new row."""
        self._row += 1

    def group(
        self,
        title: str,
        colour: str = "#3f789e",
        *,
        after: Ref | None = None,
        under: int | None = None,
        down: int = 0,
    ) -> int:
        """The next nodes go into a new group, whose number is returned.

        It stands to the right of the group before, and of the node `after`, even if that is in another row; or under
        the group `under`, beside those that are there already. down: so much lower, where wires pass above it.
        """
        self._column = 0
        place = {"row": self._row, "after": after.id if after else None, "under": under, "down": down}
        self.groups.append({"id": len(self.groups) + 1, "title": title, "colour": colour, **place})
        return len(self.groups)

    def column(self) -> None:
        """The next nodes go into a new column of the group."""
        self._column += 1

    def node(self, type: str, /, title: str | None = None, size: tuple[int, int] | None = None, **inputs: Any) -> Ref:
        """Add a node. An input is a wire (Ref or Out) or a widget's value."""
        ref = Ref(len(self.nodes) + 1)
        wires, widgets = [], {}
        for name, value in inputs.items():
            if isinstance(value, Ref | Out):
                out = Out(value.id, None) if isinstance(value, Ref) else value
                wires.append([name, out.node, out.name])
            else:
                widgets[name] = value
        place = {"group": len(self.groups), "column": self._column}
        spec = {"id": ref.id, "type": type, "title": title, "size": size, "wires": wires, "widgets": widgets}
        self.nodes.append({**spec, **place})
        return ref

    def note(self, text: str, size: tuple[int, int]) -> None:
        """Add a note in Markdown."""
        self.node("MarkdownNote", "Read me", size, **{"": text.strip()})

    def preview(self, title: str, images: Ref | Out, size: tuple[int, int] = (420, 340)) -> None:
        """Show images that a node returns."""
        self.node("PreviewImage", title, size, images=images)

    def text(self, title: str, source: Ref | Out, size: tuple[int, int] = (420, 300)) -> None:
        """Show a text that a node returns."""
        self.node("PreviewAny", title, size, source=source)
