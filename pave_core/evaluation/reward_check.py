"""Whether a reward can teach, before hours are spent on it: it must tell the images of a group apart.

For groups of images that are sampled from the untrained policy as in training:

spread        mean over groups of the standard deviation within the group
flat groups   groups in which all images have the same number
noise         root mean square difference of two scorings of one group, over sqrt 2; 0 for a deterministic reward
correlation   Pearson's, of two rewards over all images, each centred in its group

A reward can tell the images apart if fewer than half of the groups are flat and its spread is above its noise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from ..config.rollout import RolloutConfig
from ..config.train import TrainConfig
from ..errors import ConfigError, quoted
from ..rollout.run_batches import RunBatches
from ..rollout.sample import sample_rollouts
from ..scoring.groups import group_mean, group_std, zero_spread
from ..scoring.mix import RewardMix, Scores
from ..scoring.score import score as score_images
from ..seeds import seeded
from ..types import Cond, Decoder, Policy, Progress, nobody

PROMPTS, BRANCH_STEPS, GROUP_SIZE = 2, 2, 6
"""The check samples at most PROMPTS x BRANCH_STEPS groups, of at most GROUP_SIZE images each."""
CHECKING = "checking the reward"
"""What progress is told: done are the images, and then each reward."""


@dataclass(frozen=True)
class RewardNumbers:
    """The numbers of one reward, or of the mix, over the images of the check."""

    mean: float
    spread: float
    noise: float
    flat_groups: int
    groups: int
    seconds: float  # to score one image
    unscored: int  # images without a score
    images: int

    @property
    def problem(self) -> str | None:
        """Why nothing can be learnt from this reward; None if something can."""
        if self.unscored == self.images:
            return "it scored none of the images"
        if self.flat_groups == self.groups:
            return f"it gives all images of a group the same number, in all {self.groups} groups"
        if 2 * self.flat_groups >= self.groups:
            return (
                f"it gives all images of a group the same number in {self.flat_groups} of {self.groups} groups: it "
                "grades too coarsely"
            )
        if self.spread <= self.noise:
            return (
                f"its spread within a group ({self.spread:.3g}) is not above its own noise ({self.noise:.3g}): two "
                "scorings of one image differ"
            )
        return None


@dataclass(frozen=True)
class RewardCheck:
    """The result of a check."""

    mix: RewardNumbers
    rewards: dict[str, RewardNumbers]
    correlations: dict[tuple[str, str], float]
    images: Tensor  # (P * K * G, H, W, 3)
    prompts: tuple[str, ...]  # P * K * G
    labels: list[str]  # of the K groups of a prompt
    scores: Scores  # (P, K, G)

    @property
    def problem(self) -> str | None:
        """Why training on this reward would teach nothing; None if it can teach."""
        return self.mix.problem

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.problem:
            return f"This reward cannot tell your images apart: {self.problem}."
        mix = self.mix
        return (
            f"This reward can tell your images apart: its spread within a group is {mix.spread:.3g}, around a mean of "
            f"{mix.mean:.4g}."
        )

    def text(self) -> str:
        """The whole report, as Markdown."""
        rows = [("reward", "mean", "spread", "noise", "flat groups", "s / image"), ("---", *5 * ("---:",))]
        for name, f in [*self.rewards.items(), *([("the mix", self.mix)] if len(self.rewards) > 1 else [])]:
            flat = f"{f.flat_groups} of {f.groups}"
            rows.append(
                (name.replace("|", "/"), f"{f.mean:.4g}", f"{f.spread:.3g}", f"{f.noise:.3g}", flat, f"{f.seconds:.3g}")
            )
        parts = [f"**{self.verdict}**", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
        notes = [f"{name}: {f.problem}" for name, f in self.rewards.items() if len(self.rewards) > 1 and f.problem]
        notes += [
            f"{name}: {f.unscored} of {f.images} images were not scored"
            for name, f in self.rewards.items()
            if f.unscored
        ]
        notes += [
            f"{a} and {b}: correlation {value:+.2f}{_remark(value)}" for (a, b), value in self.correlations.items()
        ]
        if notes:
            parts.append("\n".join(f"- {note}" for note in notes))
        return "\n\n".join(parts)


def _remark(correlation: float) -> str:
    if correlation > 0.9:
        return ", they like the same images: one of them would do"
    return ", they pull against each other" if correlation < -0.5 else ""


def check_reward(
    policy: Policy,
    decoder: Decoder,
    *,
    reward: RewardMix,
    conds: Mapping[str, Cond],
    config: TrainConfig,
    batches: RunBatches | None = None,
    progress: Progress = nobody,
) -> RewardCheck:
    """Sample a few groups for the first prompts of `conds`, as training would, and check `reward` on them.

    conds: {prompt: policy.encode(prompt)}. The policy is used as it is: with a fresh adapter that is the untrained
    model. The check has noise of its own, so that a run is the same with and without it. batches: the run's; None: new
    ones of the config. Rewards that ask a person are left out; ConfigError where that leaves none.
    """
    asking, unasked = reward.name, reward.unasked
    if unasked is None:
        raise ConfigError(
            f"reward: {quoted(asking)} asks a person, who is asked about training images alone: there is nothing to "
            "check before; connect another reward, or switch check_reward off"
        )
    reward = unasked
    batches = batches or RunBatches.of(config.rollout, config.memory)
    sampling = _few(config.rollout)
    prompts = list(conds)[:PROMPTS]
    progress(CHECKING, 0, 1 + len(reward.rewards))
    rollouts = sample_rollouts(
        policy,
        prompts,
        conds=[conds[prompt] for prompt in prompts],
        config=sampling,
        generators=[seeded(config.run.seed, "check", prompt) for prompt in prompts],
        batches=batches.rollout,
    )
    images = batches.decode.map(decoder.decode, torch.cat([rollout.finals.flatten(0, 2) for rollout in rollouts]))
    progress(CHECKING, 1, 1 + len(reward.rewards))
    texts = tuple(prompt for prompt in prompts for _ in range(sampling.images))
    return check_scores(
        reward,
        images,
        prompts=texts,
        shape=(len(prompts), sampling.groups, sampling.group_size),
        labels=sampling.labels(sampling.branch_steps),
        progress=progress,
    )


def check_scores(
    reward: RewardMix,
    images: Tensor,
    *,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    labels: list[str],
    progress: Progress = nobody,
) -> RewardCheck:
    """Check `reward` on images (P * K * G, H, W, 3) with as many prompts.

    shape: (P, K, G); labels: of the K groups of a prompt.
    """
    group = shape[-1]
    values, again, seconds = {}, {}, {}
    for name, part in zip(reward.names, reward.rewards, strict=True):
        start = time.perf_counter()
        values[name] = score_images(part, images, prompts)
        seconds[name] = (time.perf_counter() - start) / len(images)
        again[name] = score_images(part, images[:group], prompts[:group])
        progress(CHECKING, 1 + len(values), 1 + len(reward.rewards))
    scores = Scores(values, reward.weights, reward.normalise)
    repeated = Scores(again, reward.weights, reward.normalise)

    def measured(values: Tensor, again: Tensor, seconds: float) -> RewardNumbers:
        groups = values.view(-1, group)
        return RewardNumbers(
            mean=values.nanmean().item(),
            spread=group_std(groups).mean().item(),
            noise=(again - values[:group]).square().nanmean().div(2).sqrt().nan_to_num(0.0).item(),
            flat_groups=int(zero_spread(groups).sum()),
            groups=len(groups),
            seconds=seconds,
            unscored=int(values.isnan().sum()),
            images=len(values),
        )

    return RewardCheck(
        mix=measured(scores.total(), repeated.total(), sum(seconds.values())),
        rewards={name: measured(values[name], again[name], seconds[name]) for name in values},
        correlations={
            (a, b): _correlation(values[a].view(-1, group), values[b].view(-1, group))
            for a, b in combinations(values, 2)
        },
        images=images,
        prompts=tuple(prompts),
        labels=labels,
        scores=scores.view(*shape),
    )


def _few(config: RolloutConfig) -> RolloutConfig:
    """`config` with fewer branch steps (the first and the last), smaller groups, and each image finished once."""
    steps = config.branch_steps
    return replace(
        config,
        branch_steps=steps if len(steps) <= BRANCH_STEPS or not config.in_branches else (steps[0], steps[-1]),
        group_size=min(config.group_size, GROUP_SIZE),
        coarser_tails=(),
        contrast=0,
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of values (groups, G), each centred in its group; 0 if one of the two has no spread."""
    a, b = ((values - group_mean(values)).flatten() for values in (a, b))
    both = a.isfinite() & b.isfinite()
    a, b = a[both], b[both]
    return ((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12)).item()
