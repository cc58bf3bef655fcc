"""A stopwatch for the phases of training steps, and the policy, decoder and rewards of a step that count their work.

A phase that begins inside another stops the outer one until it ends: the seconds of all phases add up to the whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor

METHODS = {
    "sample": "rollout",
    "decode": "decode",
    "score": "reward",
    "accumulate": "update",
    "update": "optimizer",
}
"""The phase of each method of TrainingStep; what lies outside of them is "other"."""
OTHER = "other"


class Watch:
    """seconds: {phase: seconds}, and calls and items: {phase: how many}, since the last clear()."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.items: Counter[str] = Counter()
        self._shares: Mapping[str, float] = {OTHER: 1.0}
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        for counter in (self.seconds, self.calls, self.items):
            counter.clear()
        self._since = self.now()

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
    """Inside, the methods of TrainingStep, the class `step`, are timed as METHODS says."""

    def timed(method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **named: Any) -> Any:
            with watch.phase(phase):
                return method(*args, **named)

        return call

    with ExitStack() as undo:
        for name, phase in METHODS.items():
            method = getattr(step, name)
            undo.callback(setattr, step, name, method)
            setattr(step, name, timed(method, phase))
        yield


class WatchedPolicy:
    """A policy whose velocities are counted: as of anchors or tails without gradient, else as of the update.

    prompts: P. The anchors come first among the latents at a sigma: of all that are sampled at a sigma of the
    schedule in a step, the first P are anchors.
    """

    def __init__(self, policy: Any, watch: Watch, *, steps: int, prompts: int) -> None:
        self._policy, self._watch, self._prompts = policy, watch, prompts
        self._schedule = torch.tensor(policy.sigmas(steps)[:-1])  # (T,)
        self._anchors_seen: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def begin_step(self) -> None:
        """Forget the anchors of the step before."""
        self._anchors_seen.clear()

    def velocity(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        """As the policy's own."""
        if torch.is_grad_enabled():
            self._count({"update": len(x)})
            return self._policy.velocity(x, sigma, cond)
        anchors = self._anchors(sigma)
        items = {"anchor": anchors, "tails": len(x) - anchors}
        self._count(items)
        with self._watch.phase(*items, items=tuple(items.values())):
            return self._policy.velocity(x, sigma, cond)

    def _anchors(self, sigma: Tensor) -> int:
        """How many of the latents (B,) of a call are anchors."""
        distance, nearest = (self._schedule - sigma[0].cpu()).abs().min(0)
        if distance > 1e-5:
            return 0
        place = int(nearest)
        found = min(self._prompts - self._anchors_seen[place], len(sigma))
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
