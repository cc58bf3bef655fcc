"""The pictures of a run: the reward curve and the before/after grid, both as (H, W, 3) tensors in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .evaluation import Evaluation

_INK, _MUTED = "#1f2933", "#7b8794"
_BLUE, _ORANGE, _GREEN = "#2563eb", "#ea580c", "#15803d"


def reward_curve(history: Sequence[Mapping[str, Any]], evaluations: Mapping[int, Evaluation]) -> Tensor:
    """The rewards over the steps.

    history: records of StepMetrics.to_dict; evaluations: {step: held-out evaluation}. Above: the mean reward of the branches with the
    spread within a group, and the held-out mean with its standard error. Below: every reward by itself, shifted to begin at 0 and in
    units of its spread.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    steps = [r["step"] for r in history]
    mean = np.array([r["reward_mean"] for r in history], dtype=float)
    spread = np.array([r["reward_std"] for r in history], dtype=float)
    window = max(1, len(steps) // 12)
    top.fill_between(steps, mean - spread, mean + spread, color=_BLUE, alpha=0.12, linewidth=0, label="spread within a group")
    top.plot(steps, mean, color=_BLUE, alpha=0.35, linewidth=1)
    top.plot(
        steps, _running_mean(mean, window), color=_BLUE, linewidth=2, label=f"training images (mean of {window})" if window > 1 else "training images"
    )
    held = sorted(evaluations.items())
    errors = [e.total.std().item() / math.sqrt(len(e.total)) if len(e.total) > 1 else 0.0 for _, e in held]
    top.errorbar(
        [s for s, _ in held],
        [e.total.mean().item() for _, e in held],
        yerr=errors,
        color=_ORANGE,
        marker="o",
        capsize=4,
        linewidth=1.5,
        label="held-out prompts, fixed seeds",
    )
    top.set_ylabel("reward")
    top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9)
    top.set_title("Pave-GRPO: is it learning?", loc="left", color=_INK, fontsize=12)

    for (name, _), colour in zip(_components(history), (_BLUE, _ORANGE, _GREEN, _MUTED), strict=False):
        values = np.array([r["rewards"].get(name, (math.nan, 0))[0] for r in history], dtype=float)
        scale = np.nanmean([r["rewards"].get(name, (0, math.nan))[1] for r in history]) or 1.0
        bottom.plot(steps, _running_mean((values - np.nanmean(values[:window])) / scale, window), linewidth=2, color=colour, label=name)
    bottom.axhline(0, color=_MUTED, linewidth=0.8)
    bottom.set_ylabel("gain, in spreads\nwithin a group")
    bottom.set_xlabel("step")
    if _components(history):
        bottom.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=9)
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).float() / 255


def _components(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    return list(history[-1]["rewards"].items()) if history else []


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the last `window` values at each place, of fewer at the beginning."""
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
