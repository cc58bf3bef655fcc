"""Guards against reward hacking: what a run is watched by, and what is done when it goes astray.

A reward that is optimised stops being a measure of what it was chosen for. So the run is measured, every so many steps on fixed prompts and
seeds, by figures that it is not trained on:

drop      (best - now) / spread                      the held-out reward's mean now against its best so far, in units of the standard deviation
                                                     of its scores over the images of step 0: the same threshold fits every reward
drift     mean ||v - v_0||^2 / mean ||v_0||^2        velocity against the base model's (the adapter off), at fixed x and sigma on the base's own
                                                     trajectories
change    (s - s_0) / max(s_0, 0.1)                  for the mean saturation, contrast and flatness of the images, all from 0 to 1

A figure beyond its threshold is an alarm: it stops the run, or halves the learning rate and goes back to the best weights, and stops the run at
the fourth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..config.train import RolloutConfig
from ..errors import ConfigError
from ..rewards.statistics import STATISTICS
from ..scoring.score import describe
from ..types import Cond, Policy, Reward
from .evaluate import Evaluation, mean

Action = Literal["stop", "lower learning rate"]
WATCHED_STATISTICS = ("saturation", "contrast", "flatness")
LEAST_BASE = 0.1
"""A statistic that is nearly 0 at the start is compared with this, or a trifle would count as a multiple."""
MAX_HALVINGS = 3
DRIFT_PROMPTS = 4
"""Drift is measured on the trajectories of so many prompts, from one seed each, at three sigmas: a quarter, half and three quarters of the way."""


@dataclass(frozen=True)
class GuardConfig:
    """When the run is measured, and how far each figure may go. A threshold of 0 switches its figure's alarm off."""

    every: int = 10
    action: Action = "stop"
    max_drop: float = 0.2
    max_drift: float = 0.0
    max_change: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every: {self.every} is below 1: give the number of steps between two measurements, such as 10")
        if self.action not in get_args(Action):
            raise ConfigError(f"action: {self.action!r} is not known: choose one of {', '.join(get_args(Action))}")
        for name in ("max_drop", "max_drift", "max_change"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: {value} is below 0: give a threshold, or 0 to switch this alarm off")


@dataclass(frozen=True)
class GuardSettings:
    """What a run is watched by: the thresholds, and a reward that is never trained on (None: the run's judge)."""

    config: GuardConfig
    held_out: Reward | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for recipes."""
        return asdict(self.config) | {"held_out": None if self.held_out is None else describe(self.held_out)}


@dataclass(frozen=True)
class Reading:
    """One measurement."""

    step: int
    held_out: float | None  # mean of the held-out reward
    drop: float | None
    drift: float
    changes: dict[str, float]  # by statistic, signed
    alarms: tuple[str, ...]  # in words; empty when all is well
    best: bool  # the held-out reward has never been higher

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; from_dict reads them back."""
        return vars(self) | {"alarms": list(self.alarms)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reading:
        """The inverse of to_dict."""
        return cls(**{**values, "alarms": tuple(values["alarms"])})


class DriftProbe:
    """Fixed points (x, sigma) on the base model's trajectories, with the base's velocity there. Make it while the adapter is off."""

    @torch.no_grad()
    def __init__(self, policy: Policy, conds: Mapping[str, Cond], config: RolloutConfig) -> None:
        sigmas = policy.sigmas(config.steps)
        noise = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
        places = sorted({max(1, config.steps * quarter // 4) for quarter in (1, 2, 3)})
        self._points: list[tuple[Cond, Tensor, Tensor, Tensor]] = []  # cond, x (1, *S), sigma (1,), v_0 (1, *S)
        for cond in list(conds.values())[:DRIFT_PROMPTS]:
            x = noise.to(policy.device) * sigmas[0]
            for k in range(max(places) + 1):
                sigma = x.new_tensor([sigmas[k]])
                v = policy.velocity(x, sigma, cond)
                if k in places:
                    self._points.append((cond, x, sigma, v))
                x = x + (sigmas[k + 1] - sigmas[k]) * v

    @torch.no_grad()
    def measure(self, policy: Policy) -> float:
        """The drift of the policy as it is now."""
        moved = torch.stack([(policy.velocity(x, sigma, cond) - v).square().mean() for cond, x, sigma, v in self._points])
        base = torch.stack([v.square().mean() for *_, v in self._points])
        return (moved.mean() / base.mean()).item()


def statistics(images: Tensor) -> dict[str, float]:
    """The mean of each watched statistic over images (N, H, W, 3)."""
    return {name: STATISTICS[name](images).mean().item() for name in WATCHED_STATISTICS}


class Guard:
    """Reads the measurements of one run.

    `base` is the base model's held-out reward, None without one. `best_step` is the measured step with the highest held-out reward of those that
    raised no alarm, `best` that reward; 0 and the base model's while there is none. Without a held-out reward it is the last that raised no alarm.
    """

    def __init__(self, config: GuardConfig, before: Evaluation) -> None:
        self.config = config
        self.best_step = 0
        self.best: float | None = None
        self.base: float | None = None
        self._spread = 1.0
        self._base_statistics = statistics(before.images)
        if before.held_out is not None:
            self.best = self.base = mean(before.held_out)
            self._spread = before.held_out[before.held_out.isfinite()].std().item()
            if not self._spread > 0:
                raise ConfigError(
                    f"guard: its held-out reward gives all {len(before.held_out)} held-out images the same number: it can not see them get worse; "
                    "choose another, hold out more prompts, or raise evaluation_seeds"
                )
        elif not (config.max_drift or config.max_change):
            raise ConfigError(
                "guard: there is nothing to watch: connect a held-out reward to Pave Guard, or a judge to the training, or set max_drift or "
                "max_change above 0"
            )

    def read(self, step: int, evaluation: Evaluation, drift: float) -> Reading:
        """Compare a measurement after `step` with the base and with the best so far, which it may become."""
        now = drop = None
        if evaluation.held_out is not None and self.best is not None and self.base is not None:
            now = mean(evaluation.held_out)
            drop = (max(self.best, self.base) - now) / self._spread
        then = self._base_statistics
        changes = {name: (value - then[name]) / max(then[name], LEAST_BASE) for name, value in statistics(evaluation.images).items()}
        alarms = tuple(self._alarms(now, drop, drift, changes))
        best = not alarms and (self.best_step == 0 or now is None or self.best is None or now > self.best)
        if best:
            self.best, self.best_step = now, step
        return Reading(step, now, drop, drift, changes, alarms, best)

    def resume(self, best: float | None, step: int) -> None:
        """Go on with the best that this run has had before."""
        self.best, self.best_step = best, step

    def _alarms(self, now: float | None, drop: float | None, drift: float, changes: Mapping[str, float]) -> Sequence[str]:
        config, found = self.config, []
        if drop is not None and config.max_drop and drop > config.max_drop:
            found.append(f"the held-out reward has fallen to {now:.4g}, by {drop:.2f} of its spread")
        if config.max_drift and drift > config.max_drift:
            found.append(f"the model has drifted by {drift:.3g} from its base")
        for name, change in changes.items():
            if config.max_change and abs(change) > config.max_change:
                found.append(f"the {name} of the images has changed by {change:+.0%}")
        return found
