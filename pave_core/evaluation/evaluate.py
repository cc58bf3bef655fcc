"""Held-out evaluation: the same prompts and seeds before and after training, by plain ODE sampling as in generation.

There may be thousands of images: they are scored in portions, and only those that a grid shows are kept, in 8 bits. Of
all, what a reward that learns needs to score them again is kept: features of some thousand numbers an image.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..config.rollout import RolloutConfig
from ..errors import NOT_FINITE, TrainingError
from ..flow.solvers import ode
from ..images import eight_bit
from ..memory.calls import wait_for
from ..rollout.run_batches import RunBatches
from ..scoring.groups import mean
from ..scoring.mix import RewardMix, Scores
from ..scoring.score import score
from ..training.processes import ALONE, Processes
from ..types import Cond, Decoder, Policy, Progress, Reward, nobody
from .looks import Looks

PORTION = 64
"""Images that are scored at once. A multiple of a network's usual batch sizes, which so stay what they are."""
SHOWN_PROMPTS = 6
"""The prompts whose images are kept."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of N = prompts x seeds images, prompt by prompt. A score is NaN where an image was not scored."""

    prompts: tuple[str, ...]  # N
    seeds: tuple[int, ...]  # N
    images: Tensor  # (n, H, W, 3) of the images that are kept, in 8 bits; n = 0 where they were dropped
    scores: dict[str, Tensor]  # reward name -> (N,)
    total: Tensor  # (N,) weighted raw sum
    judge: Tensor | None  # (N,) the judge's scores, never trained on
    held_out: Tensor | None = None  # (N,) the scores of the guard's reward, never trained on
    looks: Looks | None = None  # of the images; None where nobody looked
    kept: tuple[int, ...] | None = None  # n, which of the N images are kept; None: all
    features: Mapping[str, Tensor] = field(default_factory=dict)  # reward that learns -> (N, D), to score them again
    seconds: Mapping[str, float] = field(default_factory=dict)  # that it took: "rollout", "decode", "reward", "others"

    def image(self, i: int) -> Tensor:
        """The image (H, W, 3) with the number i < N, which is one of those that are kept."""
        return self.images[i if self.kept is None else self.kept.index(i)]

    def best_image(self) -> Tensor | None:
        """The image (H, W, 3) with the highest total of those that are kept and scored; None where there is none."""
        scores = self.total if self.kept is None else self.total[list(self.kept)]
        if not len(self.images) or not scores.isfinite().any():
            return None
        return self.images[scores.nan_to_num(-math.inf, -math.inf, -math.inf).argmax()]

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

    def scored_again(self, reward: RewardMix) -> Evaluation:
        """The same images as `reward` scores them now: where it learns, otherwise than it did then."""
        if not self.features:
            return self
        scores = reward.scored_again(self.scores, self.features)
        return replace(self, scores=dict(scores.values), total=scores.total())


def shown_prompts(prompts: Iterable[str], at_most: int = SHOWN_PROMPTS) -> list[str]:
    """Those of the different `prompts` that are shown: at most so many, evenly among them."""
    different = list(dict.fromkeys(prompts))
    return [different[i] for i in np.linspace(0, len(different) - 1, min(at_most, len(different))).astype(int)]


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
    progress: Progress = nobody,
    processes: Processes = ALONE,
) -> Evaluation:
    """Sample and score one image for each prompt of `conds` and each of `seeds`.

    conds: {prompt: policy.encode(prompt)}. held_out: the guard's reward. batches: the run's; None: new ones. A seed's
    noise is the host's own: KSampler (euler) makes the same image from it. processes: those that each call this, and
    share out the prompts, if there are enough; all get the same numbers. TrainingError if an image is not finite.
    """
    prompts = tuple(prompt for prompt in conds for _ in seeds)
    shown = set(shown_prompts(conds))
    kept = tuple(i for i, prompt in enumerate(prompts) if prompt in shown)
    own = processes.share(len(conds))
    begin = 0 if own is None else own.start * len(seeds)  # the first of this process's images
    found = _Found(processes.first if own is None else processes.gathered)
    watch = _Stopwatch()
    sampled = _sampled(
        policy,
        decoder,
        conds=conds if own is None else dict(list(conds.items())[own]),
        seeds=seeds,
        config=config,
        batches=batches or RunBatches.of(config),
        told=progress,
        watch=watch,
    )
    for place, images in _portions(sampled):
        first = begin + place
        texts = prompts[first : first + len(images)]
        if not images.isfinite().all():
            raise TrainingError(f"images: the model or its VAE gives values that are not finite: {NOT_FINITE}")
        with watch("reward"):
            features = reward.features(images)
            found.add("features", features)
            found.add("scores", reward.score(images, texts, features=features).values)
        with watch("others"):
            judged = None if judge is None else score(judge, images, texts)
            guarded = judged if held_out is judge else None if held_out is None else score(held_out, images, texts)
            found.add("watched", {"judge": judged, "held_out": guarded})
            looks = Looks.of(images)
        found.add("statistics", looks.statistics)
        here = [i - first for i in kept if first <= i < first + len(images)]
        found.add("pictures", {"kept": torch.from_numpy(eight_bit(images[here])), "small": looks.small})
    scores, watched, pictures = found.whole("scores"), found.whole("watched"), found.whole("pictures")
    return Evaluation(
        prompts,
        tuple(seeds) * len(conds),
        pictures["kept"],
        scores,
        Scores(scores, reward.weights, reward.normalise).total(),
        watched.get("judge"),
        watched.get("judge" if held_out is judge else "held_out"),
        Looks(found.whole("statistics"), pictures["small"]),
        kept,
        found.whole("features"),
        dict(watch.seconds),
    )


class _Stopwatch:
    """The seconds of the parts of something."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time inside as that of `part`."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


class _Found:
    """What was found of the portions, to be joined. gathered: from what this process has to what all have."""

    def __init__(self, gathered: Callable[[Tensor], Tensor]) -> None:
        self._gathered = gathered
        self._parts: dict[str, dict[str, list[Tensor]]] = {}

    def add(self, kind: str, values: Mapping[str, Tensor | None]) -> None:
        of_kind = self._parts.setdefault(kind, {})
        for name, value in values.items():
            if value is not None:
                of_kind.setdefault(name, []).append(value)

    def whole(self, kind: str) -> dict[str, Tensor]:
        return {name: self._gathered(torch.cat(parts)) for name, parts in self._parts[kind].items()}


def _sampled(
    policy: Policy,
    decoder: Decoder,
    *,
    conds: Mapping[str, Cond],
    seeds: Sequence[int],
    config: RolloutConfig,
    batches: RunBatches,
    told: Progress,
    watch: _Stopwatch,
) -> Iterator[Tensor]:
    """The images, prompt by prompt, as (n, H, W, 3) with n <= PORTION."""
    sigmas = policy.sigmas(config.steps)
    noise = [torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    start = torch.cat(noise).to(policy.device) * sigmas[0]
    done = 0
    told("measuring", done, len(conds) * len(seeds))
    for cond in conds.values():
        with watch("rollout"):
            finals = ode(policy, start, cond=cond, sigmas=sigmas, batches=batches.rollout)
            wait_for(finals)
        for part in finals.split(PORTION):
            with watch("decode"):
                images = batches.decode.map(decoder.decode, part)
            yield images
            done += len(part)
            told("measuring", done, len(conds) * len(seeds))


def _portions(sampled: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """(the number of the first, images) of all that is sampled, PORTION at a time; the last may be fewer."""
    first, waiting = 0, []
    for images in sampled:
        waiting.append(images)
        if sum(map(len, waiting)) >= PORTION:
            joined = torch.cat(waiting)
            yield first, joined[:PORTION]
            first, waiting = first + PORTION, [joined[PORTION:]]
    if sum(map(len, waiting)):
        yield first, torch.cat(waiting)
