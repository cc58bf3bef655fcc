"""The curve of a run: the gain on held-out prompts, the numbers that are never trained on, and each reward alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..evaluation.evaluate import Evaluation
from ..evaluation.gain import paired_gain
from ..evaluation.guard import Reading
from ..scoring.groups import mean
from .sheets import GREEN, INK, MUTED, RED

_BLUE, _ORANGE, _PURPLE = "#2563eb", "#ea580c", "#7c3aed"
_JUDGE, _GUARD, _READINGS = "#0f766e", INK, ("#854d0e", "#1e3a8a", MUTED)  # none of these is a reward's
_REWARDS = (_ORANGE, GREEN, _PURPLE, "#0891b2", "#be185d", "#a16207", "#4d7c0f", MUTED)

Panel = Callable[[Any], None]
"""Plots into one pair of axes."""
SIDE_BY_SIDE = 3
"""Panels of single rewards in a row."""


def reward_curve(
    history: Sequence[Mapping[str, Any]],
    evaluations: Mapping[int, Evaluation],
    readings: Sequence[Reading] = (),
    chosen: int | None = None,
) -> Tensor:
    """A plot of the run over its steps, as an (H, W, 3) tensor in [0, 1].

    history: records of StepMetrics.to_dict. evaluations: {step: held-out evaluation}, step 0 among them, or empty.
    readings: the guard's. chosen: the step whose weights the guard chose. The panels, from top to bottom, each only
    if there is something to show:

    - the gain on the held-out prompts since step 0, of the reward and of each of its parts, with the standard error of
      the paired difference
    - the judge and the guard's reward, which are never trained on; beside them the guard's other numbers: drift, and
      the change of the images' statistics
    - the reward of the training images with its spread within a group; it is noisier than what is learnt, since the
      prompts change from step to step
    - the same for each of several rewards, side by side
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = _rows(history, evaluations, readings)
    heights = [height for height, _ in rows]
    figure = Figure(figsize=(9, 0.7 + sum(heights)), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    first = None
    for row, (_, panels) in enumerate(rows):
        places = [grid[row, 0]]  # where rows of one panel share their edges
        if len(panels) > 1:
            within = grid[row, 0].subgridspec(1, len(panels))
            places = [within[0, place] for place in range(len(panels))]
        for place, plot in zip(places, panels, strict=True):
            axes = figure.add_subplot(place, sharex=first)
            first = first or axes
            plot(axes)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelbottom=row == len(rows) - 1)
            for reading in readings:
                if reading.alarms:
                    axes.axvline(reading.step, color=RED, linestyle="--", linewidth=1)
            if chosen is not None:
                axes.axvline(chosen, color=GREEN, linestyle=":", linewidth=1.6)
    assert first is not None
    first.xaxis.set_major_locator(MaxNLocator(integer=True))  # short runs have no half steps
    figure.supxlabel("step" + _legend_of_lines(readings, chosen), fontsize=10)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).float() / 255


def _rows(
    history: Sequence[Mapping[str, Any]], evaluations: Mapping[int, Evaluation], readings: Sequence[Reading]
) -> list[tuple[float, list[Panel]]]:
    """(height in inches, what plots its panels) of each row, from top to bottom."""
    rows: list[tuple[float, list[Panel]]] = []
    watched: list[Panel] = []
    if evaluations:
        rows.append((3.4, [lambda axes: _plot_gains(axes, evaluations)]))
        if evaluations[0].judge is not None or evaluations[0].held_out is not None:
            watched.append(lambda axes: _plot_watched(axes, evaluations))
    if readings:
        watched.append(lambda axes: _plot_readings(axes, readings))
    if watched:
        rows.append((2.2, watched))
    title = "Training images (band: spread within a group; prompts change from step to step)"
    total = [(record["reward_mean"], record["reward_std"]) for record in history]
    rows.append(
        (2.3, [partial(_plot_training, history=history, rewards=total, title=title, label="reward", colour=_BLUE)])
    )
    names = list(dict.fromkeys(name for record in history for name in record["rewards"]))
    if len(names) > 1:
        single: list[Panel] = []
        for name, colour in zip(names, _repeated(_REWARDS), strict=False):
            own = [record["rewards"].get(name, (None, None)) for record in history]
            single.append(partial(_plot_training, history=history, rewards=own, title=_short(name), colour=colour))
        rows += [(1.7, single[i : i + SIDE_BY_SIDE]) for i in range(0, len(single), SIDE_BY_SIDE)]
    return rows


def _legend_of_lines(readings: Sequence[Reading], chosen: int | None) -> str:
    parts = [f"dotted: step {chosen}, whose weights are kept"] if chosen is not None else []
    parts += ["dashed: an alarm of the guard"] if any(reading.alarms for reading in readings) else []
    return f"   ({'; '.join(parts)})" if parts else ""


def _plot_gains(axes: Any, evaluations: Mapping[int, Evaluation]) -> None:
    before = evaluations[0]
    blue = {"color": _BLUE, "linewidth": 2.2}
    _plot_paired(axes, evaluations, values=lambda e: e.total, label="reward", relative=True, **blue)
    if len(before.scores) > 1:
        for name, colour in zip(before.scores, _repeated(_REWARDS), strict=False):
            style = {"color": colour, "linewidth": 1.2, "alpha": 0.8}
            _plot_paired(
                axes,
                evaluations,
                values=lambda e, name=name: e.scores[name],
                label=f"{name} alone",
                relative=True,
                **style,
            )
    axes.axhline(0, color=MUTED, linewidth=0.8)
    if not any(evaluation.total.isfinite().any() for evaluation in evaluations.values()):
        said = "not scored: a person is asked about training images alone"
        axes.text(0.5, 0.6, said, transform=axes.transAxes, color=MUTED, ha="center")
    axes.set_ylabel("gain since step 0")
    _title(axes, "Gain of the reward on held-out prompts, same seeds", 12)
    axes.legend(loc="upper left", frameon=False, fontsize=9)


def _plot_watched(axes: Any, evaluations: Mapping[int, Evaluation]) -> None:
    """The judge and the guard's reward, each in its own units: the second has an axis of its own on the right."""
    before = evaluations[0]
    _title(axes, "Judge (not trained on), on held-out prompts", 10)
    shown: list[tuple[str, Callable[[Evaluation], Tensor | None], str]] = []
    if before.judge is not None:
        shown.append(("judge", lambda e: e.judge, _JUDGE))
    if before.held_out is not None and before.held_out is not before.judge:
        shown.append(("guard's reward", lambda e: e.held_out, _GUARD))
    for place, (label, values, colour) in enumerate(shown):
        each = axes if place == 0 else axes.twinx()
        _plot_paired(each, evaluations, values=values, label=label, relative=False, color=colour, linewidth=1.8)
        each.set_ylabel(label, color=colour)


def _plot_paired(
    axes: Any,
    evaluations: Mapping[int, Evaluation],
    *,
    values: Callable[[Evaluation], Tensor | None],
    label: str,
    relative: bool,
    **style: Any,
) -> None:
    """Plot means (or, if `relative`, gains since step 0) with the standard error of the paired difference to step 0."""
    steps, heights, errors = [], [], []
    first = values(evaluations[0])
    for step in sorted(evaluations):
        scores = values(evaluations[step])
        if scores is not None and first is not None:
            gain, error = paired_gain(first, scores)
            steps.append(step)
            heights.append(gain if relative else mean(scores))
            errors.append(error)
    axes.errorbar(steps, heights, yerr=errors, marker="o", capsize=4, label=label, **style)


def _plot_readings(axes: Any, readings: Sequence[Reading]) -> None:
    steps = [0, *(reading.step for reading in readings)]
    axes.plot(steps, [0.0, *(100 * reading.drift for reading in readings)], marker="o", color=RED, label="drift")
    for name, colour in zip(readings[0].changes, _READINGS, strict=False):
        axes.plot(
            steps, [0.0, *(100 * reading.changes[name] for reading in readings)], marker=".", color=colour, label=name
        )
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_ylabel("percent")
    _title(axes, "Guard: drift from the base, change of the images", 10)
    axes.legend(loc="best", frameon=False, fontsize=8, ncols=2)


def _plot_training(
    axes: Any,
    *,
    history: Sequence[Mapping[str, Any]],
    rewards: Sequence[tuple[float | None, float | None]],
    title: str,
    colour: str,
    label: str = "",
) -> None:
    """Plot (mean, spread) of each step as a band, with a running mean."""
    steps = [record["step"] for record in history]
    means, spread = np.array(rewards, dtype=float).reshape(-1, 2).T
    window = max(1, len(steps) // 12)
    axes.fill_between(steps, means - spread, means + spread, color=colour, alpha=0.15, linewidth=0)
    axes.plot(steps, means, color=colour, alpha=0.35, linewidth=1, marker="." if len(steps) == 1 else None)
    axes.plot(steps, _running_mean(means, window), color=colour, linewidth=1.8)
    axes.set_ylabel(label)
    _title(axes, title, 10)


def _short(name: str) -> str:
    """A reward's name over one of several panels."""
    return name if len(name) <= 30 else f"{name[:28]}..."


def _title(axes: Any, text: str, size: int) -> None:
    axes.set_title(text, loc="left", color=INK, fontsize=size)


def _repeated(colours: Sequence[str]) -> Sequence[str]:
    return [*colours] * 8


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the last `window` values at each place, of fewer at the beginning; NaN where the value is NaN."""
    return np.array(
        [
            np.nanmean(values[max(0, i - window + 1) : i + 1]) if np.isfinite(values[i]) else math.nan
            for i in range(len(values))
        ]
    )
