"""Sheets of images: the before/after grid and the groups of a rollout, as (H, W, 3) tensors in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..evaluation.evaluate import SHOWN_PROMPTS, Evaluation, shown_prompts
from ..images import picture

INK, MUTED = "#1f2933", "#7b8794"
GREEN, RED = "#15803d", "#b91c1c"

NODE = 760
"""The pixels across which a node on the page shows a sheet."""
PROMPT_SIZE, SMALL_SIZE = 13, 11
"""The sizes of letters there: on a wide sheet they are larger, so that they can be read."""
MARGIN = 16
SQUARE = 1.2
"""A sheet is at most so much higher than wide, where its rows can stand in columns."""


def before_after_grid(
    before: Evaluation,
    after: Evaluation,
    *,
    rows: int = SHOWN_PROMPTS,
    pairs: int = 4,
    labels: tuple[str, str] = ("before", "after"),
) -> Tensor:
    """Pairs of (before, after) from the same seeds: at most `rows` prompts, each with at most `pairs` pairs in a row.

    Of more seeds, a row has those whose reward changed most, up or down. The prompt is above its row, the reward below
    each image. Short rows stand in columns, so that the sheet is not much higher than wide. Returns (H, W, 3).
    """
    prompts = set(before.prompts)
    chosen = shown_prompts(before.prompts, rows)
    height, width = before.images.shape[1:3]
    w, h = _thumbnail(width, height, 256)
    seeds = len(before.prompts) // len(prompts)
    pairs = min(pairs, seeds)
    change = (after.total - before.total).abs().nan_to_num(0.0)
    gap = max(6, w // 20)
    pair_width = 2 * w + gap // 2
    row_width = pairs * pair_width + (pairs - 1) * 2 * gap
    sheet = _Rows.of(len(chosen), (row_width, h), gap, labels=True)
    font, small = sheet.fonts
    canvas = Image.new("RGB", (sheet.width, sheet.height), "white")
    draw = ImageDraw.Draw(canvas)
    for r, prompt in enumerate(chosen):
        left, y = sheet.place(r)
        note = f"the {pairs} of {seeds} seeds that changed most" if pairs < seeds else ""
        draw.text((left + row_width, y), note, MUTED, small, anchor="ra")
        free = row_width - int(draw.textlength(note, small)) - (MARGIN if note else 0)
        draw.text((left, y), _fit(prompt, draw, font, free), INK, font)
        places = [i for i, other in enumerate(before.prompts) if other == prompt]
        places = sorted(sorted(places, key=lambda i: -change[i].item())[:pairs])
        for p, i in enumerate(places):
            for side, evaluation in enumerate((before, after)):
                x = left + p * (pair_width + 2 * gap) + side * (w + gap // 2)
                if y == sheet.top:
                    draw.text((x + w / 2, MARGIN), labels[side], (MUTED, INK)[side], small, anchor="mt")
                shown = picture(evaluation.image(i)).resize((w, h), Image.Resampling.LANCZOS)
                canvas.paste(shown, (x, y + sheet.caption))
                colour = GREEN if side == 1 and after.total[i] > before.total[i] else MUTED
                sheet.write(draw, (x + w // 2, y), 0, _score(evaluation.total[i].item(), ".3f"), colour)
    return torch.from_numpy(np.array(canvas)).float() / 255


def group_sheet(
    images: Tensor,
    prompts: Sequence[str],
    *,
    labels: Sequence[str],
    rewards: Tensor,
    advantages: Tensor,
    rows: int = 12,
) -> Tensor:
    """Groups of images, at most `rows`, one per row and sorted by reward, with reward and advantage below every image.

    Short rows stand in columns, as in before_after_grid().

    images: (P * K * G, H, W, 3), with as many prompts; labels: of the K groups of a prompt; rewards, advantages:
    (P, K, G). Returns (H, W, 3).
    """
    P, K, G = rewards.shape
    w, h = _thumbnail(images.shape[2], images.shape[1], 160)
    gap = 6
    shown = min(P * K, rows)
    note = f"the first {shown} of {P * K} groups" if shown < P * K else ""
    sheet = _Rows.of(shown, (max(G * w + (G - 1) * gap, 390), h), gap, numbers=2)
    font, small = sheet.fonts
    canvas = Image.new("RGB", (sheet.width, sheet.height + (sheet.foot if note else 0)), "white")
    draw = ImageDraw.Draw(canvas)
    for row in range(shown):
        p, k = divmod(row, K)
        left, y = sheet.place(row)
        room = sheet.size[0] - draw.textlength(labels[k], small) - MARGIN
        draw.text((left, y), _fit(prompts[row * G], draw, font, room), INK, font)
        draw.text((left + sheet.size[0], y), labels[k], MUTED, small, anchor="ra")
        order = rewards[p, k].nan_to_num(-math.inf).argsort(descending=True, stable=True).tolist()
        for column, g in enumerate(order):
            x, advantage, reward = left + column * (w + gap), advantages[p, k, g].item(), rewards[p, k, g].item()
            colour = GREEN if advantage > 0 else RED if advantage < 0 else MUTED
            canvas.paste(picture(images[row * G + g]).resize((w, h), Image.Resampling.LANCZOS), (x, y + sheet.caption))
            sheet.write(draw, (x + w // 2, y), 0, _score(reward, ".4g"), INK)
            sheet.write(draw, (x + w // 2, y), 1, f"{advantage:+.2f}", colour)
    if note:
        draw.text((MARGIN, sheet.height), note, MUTED, small)
    return torch.from_numpy(np.array(canvas)).float() / 255


@dataclass(frozen=True)
class _Rows:
    """Rows of pictures in columns, with a text above each row and numbers below it; all in pixels."""

    count: int  # rows, of all columns together
    columns: int
    size: tuple[int, int]  # width and height of a row's pictures
    gap: int
    numbers: int = 1  # lines of them
    labels: bool = False  # whether there are labels above the first rows

    @classmethod
    def of(cls, count: int, size: tuple[int, int], gap: int, *, numbers: int = 1, labels: bool = False) -> _Rows:
        """With as few columns as make the sheet at most SQUARE times as high as wide; else with one row in each."""
        sheets = [cls(count, columns + 1, size, gap, numbers, labels) for columns in range(count)]
        return next((sheet for sheet in sheets if sheet.height <= SQUARE * sheet.width), sheets[-1])

    @property
    def width(self) -> int:
        """Of the sheet."""
        return 2 * MARGIN + self.columns * self.size[0] + (self.columns - 1) * 4 * self.gap

    @property
    def height(self) -> int:
        """Of the sheet."""
        return self.top + self.lines * self.line + MARGIN // 2

    @cached_property
    def fonts(self) -> tuple[ImageFont.FreeTypeFont, ImageFont.FreeTypeFont]:
        """For prompts, and for all else."""
        scale = max(1.0, self.width / NODE)
        font, small = (ImageFont.load_default(scale * size) for size in (PROMPT_SIZE, SMALL_SIZE))
        assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow has FreeType wherever it is installed as published
        assert isinstance(small, ImageFont.FreeTypeFont)
        return font, small

    @property
    def lines(self) -> int:
        """Rows in a column."""
        return math.ceil(self.count / self.columns)

    @property
    def caption(self) -> int:
        """The height of the text above a row."""
        return int(1.6 * self.fonts[0].size)

    @property
    def foot(self) -> int:
        """The height of a line of numbers, or labels."""
        return int(1.4 * self.fonts[1].size)

    @property
    def top(self) -> int:
        """Where the first rows begin."""
        return MARGIN + (self.foot if self.labels else 0)

    @property
    def line(self) -> int:
        """The height of a row with its texts."""
        return self.caption + self.size[1] + self.numbers * self.foot + max(self.gap, int(self.fonts[1].size / 2))

    def place(self, row: int) -> tuple[int, int]:
        """The left upper corner of a row, its text included."""
        column, line = divmod(row, self.lines)
        return MARGIN + column * (self.size[0] + 4 * self.gap), self.top + line * self.line

    def write(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], line: int, text: str, colour: str) -> None:
        """Write a line of numbers. at: the middle of a picture, and the top of its row."""
        y = at[1] + self.caption + self.size[1] + int(self.fonts[1].size / 3) + line * self.foot
        draw.text((at[0], y), text, colour, self.fonts[1], anchor="mt")


def _score(value: float, form: str) -> str:
    return "not scored" if math.isnan(value) else format(value, form)


def _thumbnail(width: int, height: int, largest: int) -> tuple[int, int]:
    """The (width, height) at which an image is shown: small ones grow by a whole factor, large ones shrink."""
    side = max(width, height)
    scale = max(1, math.ceil(112 / side)) if side < 112 else min(1.0, largest / side)
    return int(width * scale), int(height * scale)


def _fit(text: str, draw: ImageDraw.ImageDraw, font: Any, width: float) -> str:
    """`text` on one line of at most `width` pixels, cut at its end if need be."""
    text = " ".join(text.split())
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text.rstrip() + "..."
