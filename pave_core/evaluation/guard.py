"""The guard: signs of reward hacking, read from one measurement of a run.

A reward that is optimised stops being a measure of what it was chosen for. So every few steps the run is measured, on
fixed prompts and seeds, by numbers that it is not trained on:

drop      (best - now) / spread          of the guard's reward, which is not trained on: its mean now and at its best so
                                         far, in units of the standard deviation of its scores over the images of step
                                         0, so that one threshold fits every reward
drift     see drift.py
change    (s - s_0) / max(s_0, 0.1)      of the images' mean saturation, contrast and flatness, each from 0 to 1

A number beyond its threshold is an alarm; runs/watch.py acts on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..config.fields import check, setting
from ..errors import ConfigError, quoted
from ..scoring.groups import mean
from ..scoring.mix import RewardMix
from ..scoring.score import describe
from ..types import Reward
from .evaluate import Evaluation
from .looks import Looks

Action = Literal["stop", "lower learning rate"]
WATCHED_STATISTICS = ("saturation", "contrast", "flatness")
LEAST_BASE = 0.1
"""The smallest value that a change is divided by: small changes of a statistic that begins near 0 are no alarm."""


@dataclass(frozen=True)
class GuardConfig:
    """When the run is measured, and how far each number may go. A threshold of 0 switches its alarm off."""

    every: int = setting(
        10,
        "How soon it sees that something goes wrong, and how much time it costs: steps between two measurements, "
        "each of all held-out images.",
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
        "How far the guard's reward may fall below its best: 0.1 is strict, 0.3 patient. In units of how much its "
        "scores differed from image to image at the start (their standard deviation), so that one number fits every "
        "reward. 0: no alarm.",
        low=0.0,
        high=10.0,
        step=0.01,
        remedy="give a threshold, or 0 to switch this alarm off",
    )
    max_drift: float = setting(
        0.0,
        "Alarm when the velocity differs this much from the base model's: mean squared difference, relative to the "
        "base model's mean square. 0: no alarm.",
        low=0.0,
        high=10.0,
        step=0.001,
        remedy="give a threshold, or 0 to switch this alarm off",
    )
    max_change: float = setting(
        0.0,
        "Alarm when the saturation, contrast or flatness of the images has changed by this fraction of its value at "
        "the start. 0: no alarm.",
        low=0.0,
        high=10.0,
        step=0.05,
        remedy="give a threshold, or 0 to switch this alarm off",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class GuardSettings:
    """The guard of a run: its thresholds, and its reward, which is never trained on (None: the run's judge)."""

    config: GuardConfig
    held_out: Reward | None

    def to_dict(self) -> dict[str, Any]:
        """The guard as plain JSON values, for recipes."""
        return asdict(self.config) | {"held_out": None if self.held_out is None else describe(self.held_out)}

    def watched(self, reward: RewardMix, judge: Reward | None) -> Reward | None:
        """The reward that the guard measures with: its own, or the judge, or None.

        ConfigError if it is trained on, or asks a person.
        """
        held_out = self.held_out or judge
        if held_out is not None and RewardMix.of(held_out).asks:
            raise ConfigError(
                f"guard: its reward {quoted(held_out.name)} asks a person, who is asked about training images alone: "
                "it would have nothing to watch; connect another to held_out"
            )
        trained = [describe(part) for part, weight in zip(reward.rewards, reward.weights, strict=True) if weight]
        for part in () if held_out is None else RewardMix.of(held_out).rewards:
            if describe(part) in trained:
                raise ConfigError(
                    f"guard: its reward {quoted(part.name)} is trained on, so that it cannot show hacking: connect "
                    "one that is not to held_out"
                )
        return held_out


@dataclass(frozen=True)
class Reading:
    """One measurement by the guard."""

    step: int
    held_out: float | None  # mean of the guard's reward; None without one
    drop: float | None  # in units of the spread; None without a reward
    drift: float
    changes: dict[str, float]  # by statistic: relative to the base model, signed
    alarms: tuple[str, ...]  # in words; empty when all is well
    best: bool  # no alarm, and the guard's reward has never been higher

    def to_dict(self) -> dict[str, Any]:
        """The reading as plain JSON values; from_dict reads them back."""
        return vars(self) | {"alarms": list(self.alarms)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reading:
        """The inverse of to_dict. ValueError, TypeError or KeyError for what cannot be a reading."""
        reading = cls(**{**values, "alarms": tuple(values["alarms"])})
        numbers = (reading.held_out, reading.drop, reading.drift, *reading.changes.values())
        right = (
            type(reading.step) is int
            and type(reading.best) is bool
            and all(number is None or isinstance(number, int | float) for number in numbers)
            and all(isinstance(alarm, str) for alarm in reading.alarms)
        )
        if not right:
            raise ValueError("not a reading of the guard")
        return reading


@dataclass(frozen=True)
class Baseline:
    """The base model's numbers, which readings are compared with."""

    held_out: float | None  # mean of the guard's reward; None without one
    spread: float  # standard deviation of its scores over the images; 1 without a reward
    statistics: dict[str, float]

    @classmethod
    def of(cls, before: Evaluation, config: GuardConfig) -> Baseline:
        """The baseline from the base model's evaluation. ConfigError if the guard could never raise an alarm."""
        watched = means(before.looks)
        if before.held_out is None:
            if not (config.max_drift or config.max_change):
                raise ConfigError(
                    "guard: there is nothing to watch: connect a reward to held_out of Pave Guard, or a judge to the "
                    "training node, or set max_drift or max_change above 0"
                )
            return cls(None, 1.0, watched)
        scored = before.held_out[before.held_out.isfinite()]
        if len(scored) < 2:
            raise ConfigError(
                f"guard: its reward scored {len(scored)} of {len(before.held_out)} held-out images: at least two must "
                "be; look into the log, hold out more prompts, or raise evaluation_seeds"
            )
        spread = scored.std().item()
        if not spread > 0:
            raise ConfigError(
                f"guard: its reward gives all {len(before.held_out)} held-out images the same number: it cannot see "
                "them get worse; choose another, hold out more prompts, or raise evaluation_seeds"
            )
        return cls(mean(before.held_out), spread, watched)


@dataclass(frozen=True)
class Best:
    """The best reading so far, of those without an alarm: that with the highest reward; without a reward, the last."""

    step: int = 0  # 0: there is none
    held_out: float | None = None


def read(
    evaluation: Evaluation, drift: float, *, step: int, config: GuardConfig, base: Baseline, best: Best
) -> Reading:
    """The reading of a measurement after `step`, against the base model and the best reading so far."""
    now = highest = drop = None
    if evaluation.held_out is not None and base.held_out is not None:
        now = mean(evaluation.held_out)
        highest = base.held_out if best.held_out is None else max(best.held_out, base.held_out)
        drop = (highest - now) / base.spread
    changes = {
        name: (value - base.statistics[name]) / max(base.statistics[name], LEAST_BASE)
        for name, value in means(evaluation.looks).items()
    }
    alarms = tuple(_alarms(config, base, now=now, highest=highest, drift=drift, changes=changes))
    highest_yet = best.step == 0 or now is None or best.held_out is None or now > best.held_out
    return Reading(step, now, drop, drift, changes, alarms, not alarms and highest_yet)


def means(looks: Looks | None) -> dict[str, float]:
    """The mean of each watched statistic over the images; empty where nobody looked at them."""
    return {} if looks is None else {name: looks.statistics[name].mean().item() for name in WATCHED_STATISTICS}


def _alarms(
    config: GuardConfig,
    base: Baseline,
    *,
    now: float | None,
    highest: float | None,
    drift: float,
    changes: Mapping[str, float],
) -> Iterator[str]:
    # These texts are stored in guard.jsonl, and a resumed run must write the same.
    if config.max_drop and now is not None and highest is not None:
        limit = highest - config.max_drop * base.spread
        if now < limit:
            yield f"the held-out reward fell from {highest:.4g} to {now:.4g}, below the limit of {limit:.4g}"
    if config.max_drift and drift > config.max_drift:
        yield f"the model has drifted by {drift:.3g} from its base, beyond the limit of {config.max_drift:.3g}"
    for name, change in changes.items():
        if config.max_change and abs(change) > config.max_change:
            yield f"the {name} of the images has changed by {change:+.0%}, beyond the limit of {config.max_change:.0%}"
