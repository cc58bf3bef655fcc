"""The table of architectures in docs/MODELS.md, from the rows that tests/host/test_models.py measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}"


def _layers(hit: list[int]) -> str:
    return " / ".join(map(str, hit))


_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "velocity": ("difference from KSampler", _number),
    "gradient": ("from finite differences", _number),
    "checkpointing": ("gradient with checkpointing", _number),
    "fp8": ("gradient on fp8", _number),
    "lora": ("layers of its LoRA", str),
    "layers": ("layers: attention / + MLP / all linear", _layers),
}
"""{key of a row: (title, how its value is shown)}."""


def columns() -> list[str]:
    """The keys of a row that the table shows."""
    return list(_COLUMNS)


def markdown(rows: Mapping[str, Row]) -> str:
    """{architecture: its row} as a Markdown table; what a row does not have stays empty."""
    head = ["architecture", *(title for title, _ in _COLUMNS.values())]
    body = [
        [name, *(show(row[key]) if key in row else "" for key, (_, show) in _COLUMNS.items())]
        for name, row in rows.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])
