"""The record of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


class SegmentMetrics(NamedTuple):
    """What chain n does in the loss, in the last update of a training step (see objective/loss.py)."""

    log_prob: float  # mean_i log p^(n)(y_i), at best near -1/2
    std: float  # of p^(n)
    push: float  # |dL_n/dmean| without the KL term: how hard this chain pulls toward the better images
    kl: float = 0.0  # from the reference; 0 where kl_weight is 0
    limited: float = 0.0  # the share of images whose ratio was limited


@dataclass(frozen=True, eq=False)
class Group:
    """A group of images of a step: what was compared, and how each of them was judged."""

    prompt: str
    images: Tensor  # (G, H, W, 3) in 8 bits, on the CPU
    scores: dict[str, tuple[float, ...]]  # reward name -> (G,), NaN where an image was not scored
    advantages: tuple[float, ...]  # (G,)


@dataclass(frozen=True)
class StepMetrics:
    """What one training step did. Everything but `preview` and `group` goes to metrics.jsonl."""

    step: int  # counted from 1
    loss: float
    reward_mean: float  # mean over all branches of the weighted raw sum of the rewards; NaN where nothing was scored
    reward_std: float  # standard deviation of that sum within a group, mean over groups
    rewards: dict[str, tuple[float, float]]  # the same mean and standard deviation for each reward alone
    flat_groups: dict[str, int]  # by reward: the groups in which it gave all images the same number
    unscored: int  # images that a reward left without a score
    anchor_reward: float  # mean over the anchors of the weighted raw sum
    grad_norm: float  # before clipping
    learning_rate: float
    groups: int
    zero_spread_groups: int  # the groups with equal advantages: nothing to learn
    skipped: bool  # images, a loss or a gradient were not finite: no further optimizer step was made
    segments: dict[int, SegmentMetrics]  # by n, 1 for the plain step: means over the branch steps of all prompts
    seconds: dict[str, float]  # by phase: rollout, decode, reward, update, optimizer
    prompts: tuple[str, ...]
    preview: Tensor | None  # (H, W, 3) the first prompt's anchor; None where an image was not finite
    memory: float | None = None  # GB: the most that was in use so far, on the device or by this process (see peak.py)
    group: Group | None = None  # the first group of the first prompt; None where nothing was compared in this process

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, without the pictures; numbers may be NaN or infinite."""
        record = {k: v for k, v in vars(self).items() if k not in ("preview", "group")}
        return record | {
            "rewards": {k: list(v) for k, v in self.rewards.items()},
            "segments": {str(n): metrics._asdict() for n, metrics in self.segments.items()},
            "prompts": list(self.prompts),
        }


def checked_record(value: Any) -> dict[str, Any]:
    """`value`, if it is a record of a step as metrics.jsonl holds it, with null for numbers that are not finite.

    Versions before 0.3.0 wrote neither flat_groups nor unscored. Else TypeError, ValueError or KeyError.
    """
    numbers = ("reward_mean", "reward_std")
    counts = ("groups", "zero_spread_groups", *(name for name in ("unscored",) if name in value))
    right = (
        all(_is_number(value[name]) for name in numbers)
        and all(type(value[name]) is int and value[name] >= 0 for name in ("step", *counts))
        and type(value["skipped"]) is bool
        and all(len(pair) == 2 and all(map(_is_number, pair)) for pair in value["rewards"].values())
        and all(type(flat) is int for flat in value.get("flat_groups", {}).values())
    )
    if not right:
        raise ValueError("not a record of a step")
    return value


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
