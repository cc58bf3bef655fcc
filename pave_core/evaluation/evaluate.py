"""Held-out evaluation: the same prompts and the same seeds before and after training, by plain ODE sampling as in generation.

gain = mean_i (after_i - before_i),   standard error = std_i(after_i - before_i) / sqrt(N)          paired over (prompt, seed)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from ..config.train import RolloutConfig
from ..errors import TrainingError
from ..rollout.branches import ode
from ..scoring.score import RewardMix, score
from ..types import Cond, Decoder, Policy, Reward


@dataclass(frozen=True)
class Evaluation:
    """N = prompts x seeds samples, prompt by prompt."""

    prompts: tuple[str, ...]  # N
    seeds: tuple[int, ...]  # N
    images: Tensor  # (N, H, W, 3)
    scores: dict[str, Tensor]  # reward name -> (N,)
    total: Tensor  # (N,) weighted raw sum
    judge: Tensor | None  # (N,) a reward that is never trained on
    held_out: Tensor | None = None  # (N,) the guard's, neither

    def to_dict(self) -> dict[str, object]:
        """The means, as JSON values."""
        watched = {name: None if scores is None else mean(scores) for name, scores in (("judge", self.judge), ("held_out", self.held_out))}
        return {"reward": mean(self.total), "rewards": {name: mean(scores) for name, scores in self.scores.items()}, **watched}

    def without_images(self) -> Evaluation:
        """The same figures, without the memory of the pictures."""
        return replace(self, images=self.images[:0])


def evaluate(
    policy: Policy,
    decoder: Decoder,
    reward: RewardMix,
    judge: Reward | None,
    held_out: Reward | None,
    conds: Mapping[str, Cond],
    seeds: Sequence[int],
    config: RolloutConfig,
) -> Evaluation:
    """One sample for each prompt of `conds` and each of `seeds`; TrainingError if an image is not finite.

    A seed's noise is the host's own: KSampler (euler) makes the same image from it.
    """
    sigmas = policy.sigmas(config.steps)
    noise = torch.cat([torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    start = noise.to(policy.device) * sigmas[0]
    images = torch.cat([decoder.decode(ode(policy, start, cond, sigmas, config.batch_size)) for cond in conds.values()])
    if not images.isfinite().all():
        raise TrainingError("images: the model or its VAE gives values that are not finite: run them in a wider dtype (bf16 or fp32)")
    prompts = tuple(prompt for prompt in conds for _ in seeds)
    scores = reward.score(images, prompts)
    judged = score(judge, images, prompts) if judge is not None else None
    guarded = judged if held_out is judge else score(held_out, images, prompts) if held_out is not None else None
    return Evaluation(prompts, tuple(seeds) * len(conds), images, dict(scores.values), scores.total(), judged, guarded)


def mean(scores: Tensor) -> float:
    """The mean of the images that have a score."""
    return scores.nanmean().item()


def paired_gain(before: Tensor, after: Tensor) -> tuple[float, float]:
    """(mean gain, its standard error) of two (N,) score vectors of the same prompts and seeds; the error is 0 for N = 1.

    Pairs of which one has no score (NaN) are left out.
    """
    gain = after - before
    gain = gain[gain.isfinite()]
    error = gain.std().item() / sqrt(len(gain)) if len(gain) > 1 else 0.0
    return gain.mean().item(), error


def summarise(before: Evaluation, after: Evaluation) -> dict[str, object]:
    """The comparison as JSON values: reward_before, reward_after, reward_se, judge_before, judge_after, and every reward by itself."""
    _, error = paired_gain(before.total, after.total)
    by_reward = {
        name: {
            "before": mean(before.scores[name]),
            "after": mean(after.scores[name]),
            "se": paired_gain(before.scores[name], after.scores[name])[1],
        }
        for name in before.scores
    }
    return {
        "reward_before": mean(before.total),
        "reward_after": mean(after.total),
        "reward_se": error,
        "judge_before": None if before.judge is None else mean(before.judge),
        "judge_after": None if after.judge is None else mean(after.judge),
        "rewards": by_reward,
        "held_out_images": len(before.prompts),
    }


def comparison_table(before: Evaluation, after: Evaluation, labels: tuple[str, str]) -> str:
    """The rewards of both, in all and prompt by prompt, with the gain and its standard error, as a Markdown table."""
    rows: list[tuple[str, ...]] = [("", *labels, "gain", "+-"), ("---", *4 * ("---:",))]

    def add(name: str, a: Tensor, b: Tensor) -> None:
        gain, error = paired_gain(a, b)
        rows.append((name.replace("|", "/"), f"{mean(a):.4f}", f"{mean(b):.4f}", f"{gain:+.4f}", f"{error:.4f}"))

    add("reward", before.total, after.total)
    if len(before.scores) > 1:
        for name in before.scores:
            add(f"{name} alone", before.scores[name], after.scores[name])
    for prompt in dict.fromkeys(before.prompts):
        at = [i for i, other in enumerate(before.prompts) if other == prompt]
        add(prompt if len(prompt) <= 60 else prompt[:57] + "...", before.total[at], after.total[at])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
