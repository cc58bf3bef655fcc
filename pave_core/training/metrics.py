"""What a training step is recorded by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


class SegmentMetrics(NamedTuple):
    """What chain n does in the loss (see objective.loss.segment_metrics)."""

    log_prob: float
    std: float
    push: float


@dataclass(frozen=True)
class StepMetrics:
    """What one training step did. Everything but `preview` goes to metrics.jsonl."""

    step: int  # counted from 1
    loss: float
    reward_mean: float  # weighted raw sum over all branches of the step; NaN where nothing was scored
    reward_std: float  # mean over groups of the spread within the group
    rewards: dict[str, tuple[float, float]]  # each reward's own mean, and its spread within a group
    flat_groups: dict[str, int]  # by reward: the groups in which it gave all images the same number
    unscored: int  # images that a reward left without a score
    anchor_reward: float
    grad_norm: float  # before clipping
    learning_rate: float
    groups: int
    zero_spread_groups: int  # the mix gave all images the same number: nothing to learn
    skipped: bool  # non-finite images, loss or gradient: no optimizer step was made
    segments: dict[int, SegmentMetrics]  # by n, 1 for the plain step: means over the step's branch steps
    seconds: dict[str, float]  # by phase
    prompts: tuple[str, ...]
    preview: Tensor | None  # (H, W, 3) the first prompt's anchor; None where an image was not finite

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, without the preview."""
        record = {k: v for k, v in vars(self).items() if k != "preview"}
        return record | {
            "rewards": {k: list(v) for k, v in self.rewards.items()},
            "segments": {str(n): metrics._asdict() for n, metrics in self.segments.items()},
            "prompts": list(self.prompts),
        }
