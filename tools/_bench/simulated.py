"""A person who likes warm, large shapes, and sometimes clicks on the wrong image. For images of coloured shapes.

    u(image) = size / 0.1 + warmth / 0.4

size     mean of m over the pixels          m = 1 where a pixel's colour is further than 0.25 from the background's,
                                            which is the median of the image's border; a sigmoid of width 0.05 between
warmth   mean of R - B, weighted by m       0 where there is no shape

The person clicks the image with the highest u, and with the probability `wrong` another one, at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

EDGE, WIDTH = 0.25, 0.05


def utility(images: Tensor) -> Tensor:
    """u (N,) of images (N, H, W, 3) in [0, 1]."""
    border = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
    background = border.median(1).values[:, None, None]
    m = torch.sigmoid(((images - background).norm(dim=-1) - EDGE) / WIDTH)
    warmth = ((images[..., 0] - images[..., 2]) * m).sum((1, 2)) / m.sum((1, 2)).clamp(min=1)
    return m.mean((1, 2)) / 0.1 + warmth / 0.4


class SimulatedPerson:
    """An Asker who answers at once. made: the class Choice. clicks: how many answers are given; then all is skipped."""

    def __init__(self, made: Callable[..., Any], *, seed: int, wrong: float = 0.1, clicks: int | None = None) -> None:
        self._made, self._wrong, self._left = made, wrong, clicks
        self._random = torch.Generator().manual_seed(seed)
        self.answers: dict[str, tuple[Any, Any]] = {}  # by the question's key

    @property
    def clicks(self) -> int:
        """How many questions were answered."""
        return len(self.answers)

    def ask(self, questions: Sequence[Any]) -> list[Any]:
        return [self._answer(question) for question in questions]

    def answered(self) -> list[tuple[Any, Any]]:
        return list(self.answers.values())

    def _answer(self, question: Any) -> Any:
        if question.key in self.answers:
            return self.answers[question.key][1]
        if self._left == 0:
            return self._made("skipped")
        if self._left is not None:
            self._left -= 1
        images = question.images.float() / 255
        n = len(images)
        chosen = int(utility(images).argmax())
        if torch.rand((), generator=self._random) < self._wrong:
            chosen = (chosen + int(torch.randint(1, n, (), generator=self._random))) % n
        choice = self._made("ranked", ((chosen,), tuple(i for i in range(n) if i != chosen)))
        self.answers[question.key] = question, choice
        return choice
