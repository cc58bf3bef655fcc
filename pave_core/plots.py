"""The pictures of a run: the reward curve and the before/after grid, both as (H, W, 3) tensors in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .evaluation import Evaluation, paired_gain

_INK, _MUTED = "#1f2933", "#7b8794"
_BLUE, _ORANGE, _GREEN, _PURPLE = "#2563eb", "#ea580c", "#15803d", "#7c3aed"


def reward_curve(history: Sequence[Mapping[str, Any]], evaluations: Mapping[int, Evaluation]) -> Tensor:
    """The rewards over the steps.

    history: records of StepMetrics.to_dict; evaluations: {step: held-out evaluation}, with step 0. Above: the gain on the held-out prompts
    since step 0, with the standard error of the paired difference, for the reward and for each of its parts. Below: the reward of the
    training images with the spread within a group; the prompts change from step to step, so it is noisier than what is learnt.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    at = sorted(evaluations)
    before = evaluations[0]

    def plot_gain(label: str, values: Callable[[Evaluation], Tensor], **style: Any) -> None:
        gains = [paired_gain(values(before), values(evaluations[step])) for step in at]
        top.errorbar(at, [g for g, _ in gains], yerr=[error for _, error in gains], marker="o", capsize=4, label=label, **style)

    plot_gain("reward", lambda e: e.total, color=_BLUE, linewidth=2.2)
    if len(before.scores) > 1:
        for name, colour in zip(before.scores, (_ORANGE, _GREEN, _PURPLE, _MUTED), strict=False):
            plot_gain(f"{name} alone", lambda e, name=name: e.scores[name], color=colour, linewidth=1.2, alpha=0.8)
    top.axhline(0, color=_MUTED, linewidth=0.8)
    top.set_ylabel("gain since step 0")
    top.set_title("Held-out prompts, same seeds", loc="left", color=_INK, fontsize=12)
    top.legend(loc="upper left", frameon=False, fontsize=9)

    steps = [r["step"] for r in history]
    mean = np.array([r["reward_mean"] for r in history], dtype=float)
    spread = np.array([r["reward_std"] for r in history], dtype=float)
    window = max(1, len(steps) // 12)
    bottom.fill_between(steps, mean - spread, mean + spread, color=_BLUE, alpha=0.15, linewidth=0)
    bottom.plot(steps, mean, color=_BLUE, alpha=0.35, linewidth=1)
    bottom.plot(steps, _running_mean(mean, window), color=_BLUE, linewidth=1.8)
    bottom.set_ylabel("reward")
    bottom.set_xlabel("step")
    bottom.set_title("Training images (band: spread within a group; prompts change from step to step)", loc="left", color=_INK, fontsize=10)
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).float() / 255


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the last `window` values at each place, of fewer at the beginning; NaN where the value itself is."""
    return np.array([np.nanmean(values[max(0, i - window + 1) : i + 1]) if np.isfinite(values[i]) else math.nan for i in range(len(values))])


def before_after_grid(before: Evaluation, after: Evaluation, rows: int = 6, pairs: int = 4) -> Tensor:
    """One row a prompt, `pairs` pairs of (before, after) from the same seed, with the prompt above its row and the reward below each image."""
    prompts = list(dict.fromkeys(before.prompts))
    chosen = [prompts[i] for i in np.linspace(0, len(prompts) - 1, min(rows, len(prompts))).astype(int)]
    height, width = before.images.shape[1:3]
    scale = max(1, math.ceil(112 / max(height, width))) if max(height, width) < 112 else min(1.0, 256 / max(height, width))
    w, h = int(width * scale), int(height * scale)
    pairs = min(pairs, len(before.prompts) // len(prompts))
    gap, margin, caption, foot = max(6, w // 20), 16, 24, 20
    pair_width = 2 * w + gap // 2
    total_width = 2 * margin + pairs * pair_width + (pairs - 1) * 2 * gap
    row_height = caption + h + foot + gap
    canvas = Image.new("RGB", (total_width, margin + 22 + len(chosen) * row_height + margin // 2), "white")
    draw = ImageDraw.Draw(canvas)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for p in range(pairs):
        x = margin + p * (pair_width + 2 * gap)
        draw.text((x + w / 2, margin), "before", _MUTED, small, anchor="mt")
        draw.text((x + w + gap // 2 + w / 2, margin), "after", _INK, small, anchor="mt")
    for r, prompt in enumerate(chosen):
        y = margin + 22 + r * row_height
        draw.text((margin, y), _fit(prompt, draw, font, total_width - 2 * margin), _INK, font)
        places = [i for i, other in enumerate(before.prompts) if other == prompt][:pairs]
        for p, i in enumerate(places):
            for column, evaluation in enumerate((before, after)):
                x = margin + p * (pair_width + 2 * gap) + column * (w + gap // 2)
                canvas.paste(to_pil(evaluation.images[i]).resize((w, h), Image.Resampling.LANCZOS), (x, y + caption))
                better = column == 1 and after.total[i] > before.total[i]
                draw.text((x + w / 2, y + caption + h + 3), f"{evaluation.total[i].item():.3f}", _GREEN if better else _MUTED, small, anchor="mt")
    return torch.from_numpy(np.array(canvas)).float() / 255


def _fit(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def to_pil(image: Tensor) -> Image.Image:
    """(H, W, 3) in [0, 1] -> an 8-bit picture."""
    return Image.fromarray((image.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy())
