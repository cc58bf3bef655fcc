"""A stopwatch for the phases of training steps, and the policy, decoder and rewards of a step that count their work.

A phase that begins inside another stops the outer one until it ends: the seconds of all phases add up to the whole.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

OTHER = "other"


class Watch:
    """seconds: {phase: seconds}, and calls and items: {phase: how many}, since the last clear()."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.items: Counter[str] = Counter()
        self._shares: Mapping[str, float] = {OTHER: 1.0}
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        for counter in (self.seconds, self.calls, self.items):
            counter.clear()
        self._since = self.now()

    def current(self) -> str:
        """The phase under way."""
        return next(iter(self._shares))

    def now(self) -> float:
        """Seconds of a clock, when the device has done what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def phase(self, *names: str, items: Sequence[int] = ()) -> Iterator[None]:
        """Count the time inside as that of a phase. Of several: in proportion to the items of each."""
        shares = dict(zip(names, (n / sum(items) for n in items))) if items else dict.fromkeys(names, 1 / len(names))
        self._lap()
        outer, self._shares = self._shares, shares
        try:
            yield
        finally:
            self._lap()
            self._shares = outer

    def _lap(self) -> None:
        now = self.now()
        for name, share in self._shares.items():
            self.seconds[name] += share * (now - self._since)
        self._since = now

    def taken(self, function: Callable[[], object]) -> float:
        """The seconds of a call."""
        start = self.now()
        function()
        return self.now() - start


@contextmanager
def phases_of(step: type, watch: Watch) -> Iterator[None]:
    """Inside, the phases of TrainingStep, the class `step`, are those of `watch`: what the pack times itself."""
    timed: Any = step._timed  # pyright: ignore[reportAttributeAccessIssue]

    @contextmanager
    def watched(self: Any, phase: str) -> Iterator[None]:
        with watch.phase(phase), timed(self, phase):
            yield

    step._timed = watched
    try:
        yield
    finally:
        step._timed = timed


class WatchedPolicy:
    """A policy whose velocities are counted: in the rollout as those of anchors or tails, else of the update.

    steps: T; anchors: how many a training step has, those of candidates among them. Of all latents that are sampled at
    a sigma of the schedule, so many are anchors; the others are tails, or trajectories. Which latents of a call those
    are does not matter: its time is shared out by how many there are.
    """

    def __init__(self, policy: Any, watch: Watch, *, steps: int, anchors: int) -> None:
        self._policy, self._watch, self._anchors_at_sigma = policy, watch, anchors
        self._schedule = torch.tensor(policy.sigmas(steps)[:-1])  # (T,)
        self._anchors_seen: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def begin_step(self) -> None:
        """Forget the anchors of the step before."""
        self._anchors_seen.clear()

    def velocity(self, x: Tensor, sigma: Tensor, conds: Sequence[Any]) -> Tensor:
        """As the policy's own."""
        if self._watch.current() != "rollout":
            self._count({"update": len(x)})
            return self._policy.velocity(x, sigma, conds)
        anchors = self._anchors(sigma)
        items = {"anchor": anchors, "tails": len(x) - anchors}
        self._count(items)
        with self._watch.phase(*items, items=tuple(items.values())):
            return self._policy.velocity(x, sigma, conds)

    def _anchors(self, sigma: Tensor) -> int:
        """How many of the latents (B,) of a call are anchors."""
        distance, nearest = (self._schedule - sigma[0].cpu()).abs().min(0)
        if distance > 1e-5:
            return 0
        place = int(nearest)
        found = min(self._anchors_at_sigma - self._anchors_seen[place], len(sigma))
        self._anchors_seen[place] += found
        return found

    def _count(self, items: Mapping[str, int]) -> None:
        for name, n in items.items():
            self._watch.items[name] += n
            self._watch.calls[name] += n > 0


class WatchedDecoder:
    """A decoder whose calls are counted."""

    def __init__(self, decoder: Any, watch: Watch) -> None:
        self._decoder, self._watch = decoder, watch

    def decode(self, latents: Tensor) -> Tensor:
        """As the decoder's own."""
        self._watch.calls["decode"] += 1
        self._watch.items["decode"] += len(latents)
        return self._decoder.decode(latents)


class WatchedReward:
    """A reward whose calls are counted."""

    def __init__(self, reward: Any, watch: Watch) -> None:
        self._reward, self._watch = reward, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reward, name)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """As the reward's own."""
        self._watch.calls["reward"] += 1
        self._watch.items["reward"] += len(images)
        return self._reward(images, prompts)


def watched_mix(mix: Any, watch: Watch) -> Any:
    """A RewardMix whose rewards' calls are counted."""
    return replace(mix, rewards=tuple(WatchedReward(reward, watch) for reward in mix.rewards))
