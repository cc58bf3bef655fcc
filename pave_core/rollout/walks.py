"""Walks: latents on their way down in sigma, in lock-step.

A walk is a generator. It yields the Point where it stands, is sent the velocity there, takes its step, and yields the
next. The walks at the largest sigma move first, together: whatever stands at one sigma shares the network's calls,
whichever prompt, anchor or tail it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batches import Batches
from ..types import Cond, Policy


@dataclass(frozen=True)
class Point:
    """Where a walk stands: latents x (n, *S) of one prompt at one sigma > 0."""

    x: Tensor
    sigma: float
    cond: Cond


Walk = Generator[Point, Tensor, Tensor]
"""Yields points, is sent velocities, and returns the latents (n, *S) where it ends."""


class Walks:
    """Walks of one policy under way. batches: how many latents a network call takes."""

    def __init__(self, policy: Policy, batches: Batches) -> None:
        self._policy, self._batches = policy, batches
        self._standing: list[_Standing] = []

    def start(self, walk: Walk, ended: Callable[[Tensor], None]) -> None:
        """Let a walk join, also from within another. ended: is told where it ends."""
        self._standing.append(_Standing(walk, next(walk), ended))

    @torch.no_grad()
    def run(self) -> None:
        """Go on until all walks have ended."""
        while self._standing:
            sigma = max(each.point.sigma for each in self._standing)
            moving = [each for each in self._standing if each.point.sigma == sigma]
            waiting = [each for each in self._standing if each.point.sigma < sigma]
            velocities = self._velocities([each.point for each in moving], sigma)
            self._standing = []
            for each, v in zip(moving, velocities, strict=True):
                self._go_on(each, v)
            self._standing += waiting

    def _go_on(self, standing: _Standing, v: Tensor) -> None:
        """Send a walk its velocity. It stands before what it starts itself."""
        place = len(self._standing)
        try:
            point = standing.walk.send(v)
        except StopIteration as end:
            standing.ended(end.value)
            return
        self._standing.insert(place, replace(standing, point=point))

    def _velocities(self, points: list[Point], sigma: float) -> tuple[Tensor, ...]:
        """The velocity at each of some points with one sigma."""
        x = torch.cat([point.x for point in points])
        conds = [point.cond for point in points for _ in range(len(point.x))]
        v = self._batches.map(self._policy.velocity, x, x.new_full((len(x),), sigma), conds)
        return v.split([len(point.x) for point in points])


@dataclass(frozen=True)
class _Standing:
    """A walk, where it stands, and who is told of its end."""

    walk: Walk
    point: Point
    ended: Callable[[Tensor], None]
