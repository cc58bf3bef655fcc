"""Means with intervals.

    mean +- t_{n-1} std / sqrt(n)          Student's t; std with ddof 1

A difference of two experiments is paired: of n seeds, the differences with equal seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A mean of n values, and its confidence interval; of a single value it has no bounds."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def says(self) -> str:
        """What the interval says of a difference: "higher" or "lower"; nothing where it holds 0."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else ""


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean and its interval; at least one value."""
    from scipy.stats import t  # the host requires scipy

    n, centre = len(values), mean(values)
    if n < 2:
        return Interval(centre, -inf, inf, n)
    half = float(t.ppf((1 + level) / 2, n - 1)) * stdev(values) / sqrt(n)
    return Interval(centre, centre - half, centre + half, n)


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Interval | None:
    """The interval of value - baseline over the seeds that both have; None if there are none."""
    seeds = values.keys() & baseline.keys()
    return interval([values[seed] - baseline[seed] for seed in sorted(seeds)]) if seeds else None


def interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The polyline through the points (xs rising, ys) at x; outside of them the nearest end."""
    for (x0, y0), (x1, y1) in zip(zip(xs, ys), zip(xs[1:], ys[1:])):
        if x <= x1:
            share = 0.0 if x1 == x0 else max(0.0, (x - x0) / (x1 - x0))
            return y0 + share * (y1 - y0)
    return ys[-1]


def mean_spearman(groups: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """The mean over groups of Spearman's rank correlation of a group's values with the other's."""
    from scipy.stats import spearmanr  # the host requires scipy

    found: list[Any] = [spearmanr(a, b) for a, b in zip(groups, others)]
    return mean(float(each.statistic) for each in found)
