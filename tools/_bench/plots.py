"""The plots of docs/BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .evidence import DIFFERENCES, SCORES, run_of
from .experiments import Comparison
from .results import IMAGES, SECONDS, Record, Results, along
from .statistics import interval

PLACES = 24
"""Points of a drawn curve."""

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


def plot_person(record: Mapping[str, Any], file: Path) -> None:
    """Held-out taste along the clicks of each person, and where the taste that was learnt goes on from there."""
    figure = new_figure(6.4, 4.0)
    panel = figure.subplots()
    whole = max(run["clicks"] for run in record["runs"])
    end = 1.2 * whole  # where the steps without a click are drawn
    for run in record["runs"]:
        style = {"capsize": 3, "color": f"C{run['seed']}"}
        clicks, gains, errors = zip((0, 0.0, 0.0), *run["curve"])
        panel.errorbar(clicks, gains, errors, fmt="o-", label=f"person {run['seed']}", **style)
        alone = (run["gain"], run["alone_gain"]), (run["gain_se"], run["alone_se"])
        panel.errorbar((run["clicks"], end), *alone, fmt="o:", **style)
    panel.axvspan(whole, end, color="0.5", alpha=0.1)
    panel.annotate("ten steps\nwithout a click", ((whole + end) / 2, 0), ha="center", va="bottom", fontsize=8)
    panel.axhline(0, color="0.5", linewidth=0.8)
    panel.set_xlabel("clicks")
    panel.set_ylabel("held-out taste (std of the base model's images)")
    panel.set_xticks([point[0] for point in record["runs"][0]["curve"]])
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    save(figure, file)


def plot_curves(comparison: Comparison, results: Results, file: Path) -> None:
    """Reward and adherence on held-out prompts along the runs, against images and against seconds.

    Means over seeds; the band of the first experiment is the 95 % interval of its mean.
    """
    columns = [(score, x) for score in SCORES for x in ("images", "seconds")]
    figure = new_figure(3.6 * len(columns), 3.8)
    panels = figure.subplots(1, len(columns))
    for (score, x), panel in zip(columns, panels):
        for place, (name, runs) in enumerate(run_of(comparison, results).items()):
            _curve(panel, list(runs.values()), score, x, label=name, colour=f"C{place}", band=place == 0)
        panel.set(xlabel="images learnt from" if x == "images" else "seconds of training", ylabel=score)
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(comparison.title)
    save(figure, file)


def _curve(panel: Any, runs: Sequence[Record], score: str, x: str, *, label: str, colour: str, band: bool) -> None:
    """The mean over runs, and its interval as a band, at the places that all of them have reached."""
    column = IMAGES if x == "images" else SECONDS
    ends = [run["curve"][-1][column] for run in runs]
    places = [min(ends) * i / PLACES for i in range(PLACES + 1)]
    found = [interval([along(run, column, score, place) for run in runs]) for place in places]
    panel.plot(places, [each.mean for each in found], label=label, color=colour)
    if band and len(runs) > 1:
        low, high = [each.low for each in found], [each.high for each in found]
        panel.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)


def plot_differences(comparisons: Sequence[Comparison], results: Results, file: Path) -> None:
    """Each experiment's paired difference from the first of its comparison, with 95 % intervals."""
    lines: list[tuple[str, Mapping[str, Any]]] = []
    for comparison in comparisons:
        runs = run_of(comparison, results)
        first, *others = runs
        lines += [(f"{name}  -  {first}", {"own": runs[name], "first": runs[first]}) for name in others]
    figure = new_figure(13, 1.2 + 0.3 * len(lines))
    panels = figure.subplots(1, len(SCORES), sharey=True)
    places = list(range(len(lines)))[::-1]
    for panel, score in zip(panels, SCORES):
        for offset, (what, difference) in zip((0.15, -0.15), DIFFERENCES.items()):
            found = [difference(each["own"], each["first"], score) for _, each in lines]
            kept = [(place, each) for place, each in zip(places, found) if each is not None and each.n > 1]
            panel.errorbar(
                [each.mean for _, each in kept],
                [place + offset for place, _ in kept],
                xerr=[[each.mean - each.low for _, each in kept], [each.high - each.mean for _, each in kept]],
                fmt="o",
                markersize=3,
                capsize=2,
                label=f"after the same {what}",
            )
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set(xlabel=f"difference in {score}", yticks=places, yticklabels=[label for label, _ in lines])
        panel.grid(alpha=0.3, axis="x")
    panels[0].legend(fontsize=8)
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
