"""How long a run takes: from the seconds of single calls to those of a step, and of all that is left.

A call of n latents takes a + b n seconds, where a is what a small model spends on being called at all. a and b are
those of two calls without gradient, of one latent and of batch_size; with gradient their ratio is the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from ..batches import UNLIMITED
from ..config.train import TrainConfig
from ..seeds import seeded
from ..types import Cond, Policy
from .calls import Seconds, measure_call
from .work import Work

PHASES = {"decode": "decoding", "reward": "the reward"}
"""The phases whose seconds may be unknown, in words."""


@dataclass(frozen=True)
class Pace:
    """How fast a run is.

    update_batch: states x_k whose chains are evaluated together. checkpointing: whether the blocks are computed again,
    other than in the calls that were measured as `backward`.
    """

    seconds: Seconds
    config: TrainConfig
    update_batch: int
    checkpointing: bool = False

    @property
    def step(self) -> dict[str, float]:
        """The seconds of a training step by phase, without phases of which nothing is known."""
        of, work = self.seconds, Work(self.config)
        again = self.checkpointing + self.config.memory.recompute_chains
        share = of.share(min(self.update_batch, work.together) * work.evaluations / work.calls)
        each = (1 + again) * of.forward + of.backward
        found = {
            "rollout": work.sampled * of.sampling,
            "decode": work.decoded * of.decode,
            "reward": work.decoded * of.reward,
            "update": share * (work.updated * each + work.compared * of.forward),
        }
        return {phase: seconds for phase, seconds in found.items() if not math.isnan(seconds)}

    def of_images(self, *, decode: float, reward: float) -> Pace:
        """The same, with the seconds of decoding and of scoring an image."""
        return replace(self, seconds=replace(self.seconds, decode=decode, reward=reward))

    def measurement(self, images: int) -> float:
        """The seconds of measuring so many held-out images, of what is known: sampled, decoded and scored."""
        of = self.seconds
        each = (self.config.rollout.steps * of.sampling, of.decode, of.reward)
        return images * sum(seconds for seconds in each if not math.isnan(seconds))


def pace_of(policy: Policy, cond: Cond, config: TrainConfig) -> Pace | None:
    """The pace by some calls of a policy in use, as its own settings compute them, where all states x_k are evaluated
    together; None where a call does not fit. After sigmas().
    """
    first = policy.sigmas(config.rollout.steps)[0]

    def velocity(n: int) -> Tensor:
        x = torch.randn(n, *policy.latent_shape, generator=seeded(config.run.seed, "pace")).to(policy.device)
        return policy.velocity(x, x.new_full((n,), first), [cond] * n)

    own = list(policy.parameters().values())
    call = measure_call(velocity, own, batch_size=config.rollout.batch_size, again=False)
    return None if call is None else Pace(call.seconds, config, UNLIMITED)


@dataclass(frozen=True)
class Duration:
    """How long a run takes that goes on after step `done`.

    every: it is measured after the steps that one of these divides (0: none), and after the last.
    """

    step: Mapping[str, float]  # as Pace.step
    steps: int | None = None  # of the whole run; None where a graph decides
    done: int = 0
    measurement: float = 0.0  # seconds of one; 0: nothing is measured
    every: tuple[int, ...] = ()
    unmeasured: bool = False  # whether the base model is still to be measured
    asks: bool = False  # whether a person is asked, whose time nobody knows

    @property
    def each(self) -> float:
        """The seconds of a step."""
        return sum(self.step.values())

    def left(self, done: int, each: float | None = None) -> float | None:
        """The seconds from step `done` to the end; None where a graph decides. each: of a step, if that is known."""
        if self.steps is None:
            return None
        steps = max(0, self.steps - done)
        return steps * (self.each if each is None else each) + self.measurements(done) * self.measurement

    def measurements(self, done: int) -> int:
        """How many are left after step `done`."""
        if not self.measurement or self.steps is None:
            return 0
        last, every = self.steps, [n for n in self.every if n]
        due = int(done < last and all(last % n for n in every))
        for count in range(1, len(every) + 1):  # steps that two of them divide are counted once
            for some in combinations(every, count):
                n = math.lcm(*some)
                due -= (-1) ** count * (last // n - min(done, last) // n)
        return due + self.unmeasured

    @property
    def unknown(self) -> list[str]:
        """What the seconds leave out, in words."""
        phases = [words for phase, words in PHASES.items() if phase not in self.step]
        return phases + (["the time that you take to answer"] if self.asks else [])

    @property
    def roughly(self) -> str:
        """What is said before a time: "about" or, where it leaves something out, "at least"."""
        return "at least" if self.unknown else "about"

    @property
    def short(self) -> str:
        """The whole in few words."""
        left = self.left(self.done)
        words = f"{in_time(self.each)} a step" if left is None else f"{in_time(left)} to go"
        return f"{self.roughly} {words}"

    @property
    def line(self) -> str:
        """The whole in one line, with what it leaves out."""
        *most, last = self.unknown or [""]
        rest = f", without {', '.join(most)}{' and ' if most else ''}{last}" if last else ""
        left, measurements = self.left(self.done), self.measurements(self.done)
        if self.steps is None or left is None:
            return f"time: {self.roughly} {in_time(self.each)} a step{rest}"
        steps = f"{_count(self.steps - self.done, 'step')} of {in_time(self.each)}"
        measured = f" and {_count(measurements, 'measurement')} of {in_time(self.measurement)}"
        return f"time: {self.roughly} {in_time(left)} for {steps}{measured if measurements else ''}{rest}"


def in_time(seconds: float) -> str:
    """Seconds in words: "2.1 s", "40 s", "3.5 min", "12 min", "9.2 h"."""
    amount, unit = seconds, "s"
    for larger in ("min", "h"):
        if amount >= 90:
            amount, unit = amount / 60, larger
    return f"{amount:.2g} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
