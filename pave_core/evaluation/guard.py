"""What tells that a run goes astray, read from one measurement.

A reward that is optimised stops being a measure of what it was chosen for. So the run is measured, every so many steps on
fixed prompts and seeds, by numbers that it is not trained on:

drop      (best - now) / spread              the held-out reward's mean now against its best so far, in units of the standard
                                             deviation of its scores over the images of step 0: one threshold fits every reward
drift     see drift.py
change    (s - s_0) / max(s_0, 0.1)          for the mean saturation, contrast and flatness of the images, all from 0 to 1

One beyond its threshold is an alarm; runs/watch.py acts on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ..config.fields import check, setting
from ..errors import ConfigError
from ..rewards.statistics import STATISTICS
from ..scoring.groups import mean
from ..scoring.mix import RewardMix
from ..scoring.score import describe
from ..types import Reward
from .evaluate import Evaluation

Action = Literal["stop", "lower learning rate"]
WATCHED_STATISTICS = ("saturation", "contrast", "flatness")
LEAST_BASE = 0.1
"""A statistic that is nearly 0 at the start is compared with this, or a trifle would count as a multiple."""


@dataclass(frozen=True)
class GuardConfig:
    """When the run is measured, and how far each number may go. A threshold of 0 switches its alarm off."""

    every: int = setting(
        10,
        "Steps between two measurements.",
        low=1,
        high=10_000,
        remedy="give the number of steps between two measurements, such as 10",
    )
    action: Action = setting(
        "stop",
        "stop: end the run. lower learning rate: go back to the best weights with half the learning rate; the fourth "
        "alarm ends the run.",
        options=get_args(Action),
    )
    max_drop: float = setting(
        0.2,
        "Alarm when the held-out reward is so far below its best, in units of its spread at the start. 0: no alarm.",
        low=0.0,
        high=10.0,
        step=0.01,
        remedy="give a threshold, or 0 to switch this alarm off",
    )
    max_drift: float = setting(
        0.0,
        "Alarm when the velocity differs so much from the base model's: mean squared difference, relative to its mean "
        "square. 0: no alarm.",
        low=0.0,
        high=10.0,
        step=0.001,
        remedy="give a threshold, or 0 to switch this alarm off",
    )
    max_change: float = setting(
        0.0,
        "Alarm when saturation, contrast or flatness of the images has changed by this part of what it was: 0.5 is by "
        "half. 0: no alarm.",
        low=0.0,
        high=10.0,
        step=0.05,
        remedy="give a threshold, or 0 to switch this alarm off",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class GuardSettings:
    """What a run is watched by: the thresholds, and a reward that is never trained on (None: the run's judge)."""

    config: GuardConfig
    held_out: Reward | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for recipes."""
        return asdict(self.config) | {"held_out": None if self.held_out is None else describe(self.held_out)}

    def watched(self, reward: RewardMix, judge: Reward | None) -> Reward | None:
        """The reward that the guard goes by. ConfigError if it is trained on as well."""
        held_out = self.held_out or judge
        trained = [describe(part) for part, weight in zip(reward.rewards, reward.weights, strict=True) if weight]
        for part in () if held_out is None else RewardMix.of(held_out).rewards:
            if describe(part) in trained:
                raise ConfigError(
                    f"guard: its held-out reward {part.name!r} is trained on, so that it cannot show hacking: connect "
                    "one that is not"
                )
        return held_out


@dataclass(frozen=True)
class Reading:
    """One measurement."""

    step: int
    held_out: float | None  # mean of the held-out reward
    drop: float | None
    drift: float
    changes: dict[str, float]  # by statistic, signed
    alarms: tuple[str, ...]  # in words; empty when all is well
    best: bool  # no alarm, and the held-out reward has never been higher

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; from_dict reads them back."""
        return vars(self) | {"alarms": list(self.alarms)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reading:
        """The inverse of to_dict."""
        return cls(**{**values, "alarms": tuple(values["alarms"])})


@dataclass(frozen=True)
class Baseline:
    """What the base model gave."""

    held_out: float | None  # mean of the held-out reward; None without one
    spread: float  # its standard deviation over the images
    statistics: dict[str, float]

    @classmethod
    def of(cls, before: Evaluation, config: GuardConfig) -> Baseline:
        """From the evaluation of the base model. ConfigError where the guard would see nothing."""
        watched = statistics(before.images)
        if before.held_out is None:
            if not (config.max_drift or config.max_change):
                raise ConfigError(
                    "guard: there is nothing to watch: connect a held-out reward to Pave Guard, or a judge to the "
                    "training, or set max_drift or max_change above 0"
                )
            return cls(None, 1.0, watched)
        spread = before.held_out[before.held_out.isfinite()].std().item()
        if not spread > 0:
            raise ConfigError(
                f"guard: its held-out reward gives all {len(before.held_out)} held-out images the same number: it "
                "cannot see them get worse; choose another, hold out more prompts, or raise evaluation_seeds"
            )
        return cls(mean(before.held_out), spread, watched)


@dataclass(frozen=True)
class Best:
    """The best measurement so far: the highest held-out reward of those without an alarm, else the last of them."""

    step: int = 0  # 0: there is none
    held_out: float | None = None


def read(
    evaluation: Evaluation, drift: float, *, step: int, config: GuardConfig, base: Baseline, best: Best
) -> Reading:
    """What a measurement after `step` says, against the base model and against the best so far."""
    now = drop = None
    if evaluation.held_out is not None and base.held_out is not None:
        now = mean(evaluation.held_out)
        highest = base.held_out if best.held_out is None else max(best.held_out, base.held_out)
        drop = (highest - now) / base.spread
    changes = {
        name: (value - base.statistics[name]) / max(base.statistics[name], LEAST_BASE)
        for name, value in statistics(evaluation.images).items()
    }
    alarms = tuple(_alarms(config, now, drop, drift, changes))
    highest_yet = best.step == 0 or now is None or best.held_out is None or now > best.held_out
    return Reading(step, now, drop, drift, changes, alarms, not alarms and highest_yet)


def statistics(images: Tensor) -> dict[str, float]:
    """The mean of each watched statistic over images (N, H, W, 3)."""
    return {name: STATISTICS[name](images).mean().item() for name in WATCHED_STATISTICS}


def _alarms(
    config: GuardConfig, now: float | None, drop: float | None, drift: float, changes: Mapping[str, float]
) -> Iterator[str]:
    if drop is not None and config.max_drop and drop > config.max_drop:
        yield f"the held-out reward has fallen to {now:.4g}, by {drop:.2f} of its spread"
    if config.max_drift and drift > config.max_drift:
        yield f"the model has drifted by {drift:.3g} from its base"
    for name, change in changes.items():
        if config.max_change and abs(change) > config.max_change:
            yield f"the {name} of the images has changed by {change:+.0%}"
