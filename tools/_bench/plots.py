"""The plots of docs/BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

TITLES = {
    "G": "G, branches in a group",
    "T": "T, denoising steps",
    "S": "|S|, segments: {}, {2}, {2, 3}, ...",
    "K": "|K|, branch steps",
    "pixels": "pixels of a side",
}
LINES = (("step", "a training step", "o-"), ("needed", "network, VAE and rewards", "s--"), ("network", "network", "^:"))


def plot_scaling(record: Mapping[str, Any], file: Path) -> None:
    """Seconds of a step and of its floor, one panel an axis."""
    axes: dict[str, list[Mapping[str, Any]]] = {}
    for point in record["points"]:
        axes.setdefault(point["axis"], []).append(point)
    figure = new_figure(3.6 * len(axes), 3.4)
    panels = figure.subplots(1, len(axes), squeeze=False)[0]
    for panel, (axis, points) in zip(panels, axes.items()):
        for key, label, style in LINES:
            panel.plot([point["x"] for point in points], [point[key] for point in points], style, label=label)
        panel.set(xlabel=TITLES[axis], ylim=(0, None), xticks=[point["x"] for point in points])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds an iteration")
    panels[0].legend()
    figure.suptitle(f"{record['model']} on {record['machine']['device']}")
    save(figure, file)


def new_figure(width: float, height: float) -> Figure:
    """A figure of width x height inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
