"""Do cheaper tails rank the images of a group as full tails do? They decide who is best; the likelihood has no tails.

    Spearman's correlation of the advantages on a cheaper tail and on the schedule's Euler tail, within each group

The same branches are finished both ways. Means over the groups of a prompt; the interval is over prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from _cuda.host import pack_module

from .settings import replaced
from .statistics import interval, mean_spearman
from .subject import Subject, encoded, some_captions

sample_rollouts = pack_module("pave_core.rollout.sample").sample_rollouts
advantages_of = pack_module("pave_core.objective.advantage").advantages_of
seeded = pack_module("pave_core.seeds").seeded
RunBatches = pack_module("pave_core.rollout.run_batches").RunBatches

SHARES = (2, 4)
"""A tail has a half or a quarter of the schedule's steps."""


@dataclass(frozen=True)
class Ranks:
    """How the tails of one kind rank. low, high: the 95 % interval of the mean."""

    solver: str
    tail_steps: int
    spearman: float
    low: float
    high: float
    prompts: int

    def line(self) -> str:
        """As a line of a table."""
        return (
            f"{self.solver:<10} {self.tail_steps:>3} steps an image: Spearman {self.spearman:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}], {self.prompts} prompts"
        )


def measured_ranks(subject: Subject, *, prompts: int) -> Iterator[Ranks]:
    """The ranks of each kind of tail, on one rollout of each of so many prompts of the base model."""
    config = subject.config
    steps = config.rollout.steps
    kinds = [(solver, round(steps / share)) for share in SHARES for solver in ("multistep", "euler")]
    with torch.inference_mode(), subject.policy(config) as policy:
        policy.sigmas(steps)
        conds = encoded(policy, some_captions(prompts))
        full = {
            prompt: advantages_of_rollout(subject, policy, config, prompt, cond)[1] for prompt, cond in conds.items()
        }
        for solver, tail_steps in kinds:
            cheap = replaced(config, {"rollout.tail_solver": solver, "rollout.tail_steps": tail_steps})
            found = [
                mean_spearman(
                    advantages_of_rollout(subject, policy, cheap, prompt, cond)[1].tolist(), full[prompt].tolist()
                )
                for prompt, cond in conds.items()
            ]
            of_all = interval(found)
            yield Ranks(solver, tail_steps, of_all.mean, of_all.low, of_all.high, of_all.n)


def advantages_of_rollout(subject: Subject, policy: Any, config: Any, prompt: str, cond: Any) -> tuple[Any, Tensor]:
    """A rollout, whose branches depend on the prompt alone, and the advantages (K, G) of its images."""
    batches = RunBatches.of(config.rollout, config.memory)
    (rollout,) = sample_rollouts(
        policy,
        [prompt],
        conds=[cond],
        config=config.rollout,
        generators=[seeded(0, "ranks", prompt)],
        batches=batches.rollout,
    )
    _, K, G = rollout.finals.shape[:3]
    images = batches.decode.map(subject.decoder().decode, rollout.finals.flatten(0, 2))
    scores = subject.reward.score(images, [prompt] * len(images))
    return rollout, advantages_of(scores.view(K, G), config.pave.advantage_clip)
