"""Which prompts a training step uses, and which denoising steps explore in it.

Prompts come in turn, or AdaGRPO (arXiv 2606.06828) chooses them. It scores one image of each of B candidates and keeps
a running mean and variance of these scores, over batches of scores s with the decay a = 0.8:

    m   = a m + (1 - a) mean s                the first batch initialises both
    var = a var + (1 - a) var s               ddof 0

Trained on are the candidates whose scores are nearest the new m: neither too easy nor too hard for the policy.

Branch steps stay, or are a window that slides along the schedule during training (MixGRPO, arXiv 2507.21802).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config.train import TrainConfig
from ..errors import ConfigError, TrainingError
from ..seeds import seeded


def prompts_of_step(prompts: Sequence[str], config: TrainConfig, step: int) -> list[str]:
    """The prompts of step `step`, counted from 0. Over the steps, all prompts come in one random order after another.

    ConfigError if there are no prompts.
    """
    if not prompts:
        raise ConfigError("prompts: there are none to train on: write at least one, or keep fewer for evaluation")
    count = config.run.prompts_per_step
    chosen = []
    for position in range(step * count, (step + 1) * count):
        epoch, index = divmod(position, len(prompts))
        order = torch.randperm(len(prompts), generator=seeded(config.run.seed, "order", epoch))
        chosen.append(prompts[int(order[index])])
    return chosen


def candidates_of_step(prompts: Sequence[str], config: TrainConfig, step: int) -> list[str]:
    """The B = config.rollout.candidates prompts among which step `step`, counted from 0, chooses: a random sample.

    ConfigError if there are fewer prompts.
    """
    count = config.rollout.candidates
    if count > len(prompts):
        raise ConfigError(
            f"candidates: {count} of {len(prompts)} training prompts: lower candidates, or write more prompts"
        )
    order = torch.randperm(len(prompts), generator=seeded(config.run.seed, "candidates", step))
    return [prompts[int(i)] for i in order[:count]]


@dataclass(frozen=True)
class RunningStats:
    """The running mean and variance of the scores of candidates."""

    mean: float
    var: float

    @classmethod
    def of(cls, scores: Tensor) -> RunningStats:
        """Those of the first batch of scores (B,). NaN is left out; TrainingError if that leaves none."""
        scored = scores[~scores.isnan()].double()
        if not len(scored):
            raise TrainingError(
                f"candidates: the reward scored none of {len(scores)} images: see the log for what it said, or set "
                "candidates to 0"
            )
        return cls(scored.mean().item(), scored.var(correction=0).item())

    def updated(self, scores: Tensor, decay: float = 0.8) -> RunningStats:
        """These after one more batch of scores (B,), with the same errors as `of`."""
        batch = RunningStats.of(scores)
        return RunningStats(decay * self.mean + (1 - decay) * batch.mean, decay * self.var + (1 - decay) * batch.var)


def nearest(scores: Tensor, mean: float, count: int) -> list[int]:
    """The indices of the `count` scores (B,) nearest `mean`, the nearest first.

    Of two at the same distance the first comes first; NaN comes last.
    """
    distance = (scores.double() - mean).abs().nan_to_num(torch.inf)
    return distance.argsort(stable=True)[:count].tolist()


def window(branch_steps: Sequence[int], step: int, *, every: int, stride: int, steps: int) -> tuple[int, ...]:
    """The branch steps of training step `step`, counted from 0, of T = `steps` denoising steps.

    All have moved on by `stride` after each `every` training steps. Where the last would pass T - 2 they are back where
    they began. every = 0: they stay.
    """
    if every == 0:
        return tuple(branch_steps)
    places = (steps - 2 - max(branch_steps)) // stride + 1
    shift = stride * (step // every % places)
    return tuple(k + shift for k in branch_steps)
