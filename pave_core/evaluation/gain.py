"""The gain of training, on the same prompts and seeds before and after.

gain           = mean_i (after_i - before_i)                    i: a pair of (prompt, seed)
standard error = std_i (after_i - before_i) / sqrt(N)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

from torch import Tensor

from ..scoring.groups import mean
from .evaluate import Evaluation
from .looks import Change


@dataclass(frozen=True)
class Gain:
    """The means of one reward before and after, and the standard error of their paired difference."""

    before: float
    after: float
    se: float

    @classmethod
    def of(cls, before: Tensor, after: Tensor) -> Gain:
        """The gain from two (N,) score vectors of the same prompts and seeds."""
        return cls(mean(before), mean(after), paired_gain(before, after)[1])


@dataclass(frozen=True)
class Comparison:
    """The gains between two evaluations of the same prompts and seeds."""

    total: Gain  # of the weighted raw sum
    rewards: dict[str, Gain]
    judge: tuple[float, float] | None  # the judge's means, before and after
    images: int  # how many each evaluation has
    change: Change | None = None  # of the images; None where nobody looked

    @classmethod
    def of(cls, before: Evaluation, after: Evaluation) -> Comparison:
        """Compare `after` with `before`."""
        judged = before.judge is not None and after.judge is not None
        looked = before.looks is not None and after.looks is not None
        return cls(
            total=Gain.of(before.total, after.total),
            rewards={name: Gain.of(before.scores[name], after.scores[name]) for name in before.scores},
            judge=(mean(before.judge), mean(after.judge)) if judged else None,  # pyright: ignore[reportArgumentType]
            images=len(before.prompts),
            change=Change.of(before.looks, after.looks) if looked else None,  # pyright: ignore[reportArgumentType]
        )

    @property
    def scored(self) -> bool:
        """Whether there is a gain: images that were scored both times, by all that the reward is made of."""
        return isfinite(self.total.after - self.total.before)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values; numbers are NaN where nothing was scored."""
        judge_before, judge_after = self.judge or (None, None)
        return {
            "reward_before": self.total.before,
            "reward_after": self.total.after,
            "reward_se": self.total.se,
            "judge_before": judge_before,
            "judge_after": judge_after,
            "rewards": {name: vars(gain) for name, gain in self.rewards.items()},
            "held_out_images": self.images,
            "image_change": None if self.change is None else self.change.to_dict(),
        }


def paired_gain(before: Tensor, after: Tensor) -> tuple[float, float]:
    """(mean gain, its standard error) of two (N,) score vectors of the same prompts and seeds.

    Pairs in which an image has no score (NaN) are left out. The error is 0 for a single pair.
    """
    gain = after - before
    gain = gain[gain.isfinite()]
    error = gain.std().item() / sqrt(len(gain)) if len(gain) > 1 else 0.0
    return gain.mean().item(), error


def comparison_table(before: Evaluation, after: Evaluation, labels: tuple[str, str]) -> str:
    """The rewards of both evaluations, in total and by prompt, with gain and standard error, as a Markdown table."""
    rows: list[tuple[str, ...]] = [("", *labels, "gain", "+-"), ("---", *4 * ("---:",))]

    def add(name: str, a: Tensor, b: Tensor) -> None:
        gain, error = paired_gain(a, b)
        numbers = (f"{mean(a):.4f}", f"{mean(b):.4f}", f"{gain:+.4f}", f"{error:.4f}")
        rows.append((name.replace("|", "/"), *(numbers if isfinite(gain) else 4 * ("not scored",))))

    add("reward", before.total, after.total)
    if len(before.scores) > 1:
        for name in before.scores:
            add(f"{name} alone", before.scores[name], after.scores[name])
    for prompt in dict.fromkeys(before.prompts):
        at = [i for i, other in enumerate(before.prompts) if other == prompt]
        add(prompt if len(prompt) <= 60 else prompt[:57] + "...", before.total[at], after.total[at])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
