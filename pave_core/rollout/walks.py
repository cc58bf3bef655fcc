"""Walks: latents on their way down in sigma, in lock-step.

A walk is a generator. It yields the Point where it stands, is sent the velocity there, takes its step, and yields the
next. The walks at the largest sigma move first, together: whatever stands at one sigma shares the network's calls,
whichever prompt, anchor or tail it belongs to.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

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


Walk = Generator[Point, Tensor, None]


class Walks:
    """Walks of one policy under way. batches: how many latents a network call takes."""

    def __init__(self, policy: Policy, batches: Batches) -> None:
        self._policy, self._batches = policy, batches
        self._standing: list[tuple[Walk, Point]] = []

    def start(self, walk: Walk) -> None:
        """Let a walk join, also from within another."""
        point = next(walk, None)
        if point is not None:
            self._standing.append((walk, point))

    @torch.no_grad()
    def run(self) -> None:
        """Go on until all walks have ended."""
        while self._standing:
            sigma = max(point.sigma for _, point in self._standing)
            moving = [walk for walk in self._standing if walk[1].sigma == sigma]
            waiting = [walk for walk in self._standing if walk[1].sigma < sigma]
            velocities = self._velocities([point for _, point in moving], sigma)
            self._standing = []
            for (walk, _), v in zip(moving, velocities, strict=True):
                self._go_on(walk, v)
            self._standing += waiting

    def _go_on(self, walk: Walk, v: Tensor) -> None:
        """Send a walk its velocity. It stands before what it starts itself."""
        place = len(self._standing)
        try:
            point = walk.send(v)
        except StopIteration:
            return
        self._standing.insert(place, (walk, point))

    def _velocities(self, points: list[Point], sigma: float) -> tuple[Tensor, ...]:
        """The velocity at each of some points with one sigma."""
        conds = [point.cond for point in points for _ in range(len(point.x))]
        v = self._batches.map(
            lambda x, conds: self._policy.velocity(x, x.new_full((len(x),), sigma), conds),
            torch.cat([point.x for point in points]),
            conds,
        )
        return v.split([len(point.x) for point in points])
