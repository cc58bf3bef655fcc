"""Held-out evaluation: the same prompts and seeds before and after training, by plain ODE sampling as in generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config.rollout import RolloutConfig
from ..errors import NOT_FINITE, TrainingError
from ..flow.solvers import ode
from ..rollout.run_batches import RunBatches
from ..scoring.groups import mean
from ..scoring.mix import RewardMix
from ..scoring.score import score
from ..types import Cond, Decoder, Policy, Reward
from .looks import Looks


@dataclass(frozen=True)
class Evaluation:
    """The scores of N = prompts x seeds images, prompt by prompt. A score is NaN where an image was not scored."""

    prompts: tuple[str, ...]  # N
    seeds: tuple[int, ...]  # N
    images: Tensor  # (N, H, W, 3); (0, H, W, 3) where they were dropped
    scores: dict[str, Tensor]  # reward name -> (N,)
    total: Tensor  # (N,) weighted raw sum
    judge: Tensor | None  # (N,) the judge's scores, never trained on
    held_out: Tensor | None = None  # (N,) the scores of the guard's reward, never trained on
    looks: Looks | None = None  # of the images; None where nobody looked

    def to_dict(self) -> dict[str, object]:
        """The mean scores, as JSON values."""
        watched = {"judge": self.judge, "held_out": self.held_out}
        return {
            "reward": mean(self.total),
            "rewards": {name: mean(scores) for name, scores in self.scores.items()},
            **{name: None if scores is None else mean(scores) for name, scores in watched.items()},
        }

    def without_images(self) -> Evaluation:
        """The same scores without the images, which free their memory."""
        return replace(self, images=self.images[:0])


def evaluate(
    policy: Policy,
    decoder: Decoder,
    *,
    reward: RewardMix,
    judge: Reward | None = None,
    held_out: Reward | None = None,
    conds: Mapping[str, Cond],
    seeds: Sequence[int],
    config: RolloutConfig,
    batches: RunBatches | None = None,
) -> Evaluation:
    """Sample and score one image for each prompt of `conds` and each of `seeds`.

    conds: {prompt: policy.encode(prompt)}. held_out: the guard's reward. batches: the run's; None: new ones. A seed's
    noise is the host's own: KSampler (euler) makes the same image from it. TrainingError if an image is not finite.
    """
    batches = batches or RunBatches.of(config)
    sigmas = policy.sigmas(config.steps)
    noise = [torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    start = torch.cat(noise).to(policy.device) * sigmas[0]
    images = torch.cat(
        [
            batches.decode.map(decoder.decode, ode(policy, start, cond=cond, sigmas=sigmas, batches=batches.rollout))
            for cond in conds.values()
        ]
    )
    if not images.isfinite().all():
        raise TrainingError(f"images: the model or its VAE gives values that are not finite: {NOT_FINITE}")
    prompts = tuple(prompt for prompt in conds for _ in seeds)
    scores = reward.score(images, prompts)
    judged = score(judge, images, prompts) if judge is not None else None
    guarded = judged if held_out is judge else score(held_out, images, prompts) if held_out is not None else None
    return Evaluation(
        prompts,
        tuple(seeds) * len(conds),
        images,
        dict(scores.values),
        scores.total(),
        judged,
        guarded,
        Looks.of(images),
    )
