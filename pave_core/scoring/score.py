"""What every reward shares: the check of what it returned, and the mix of several.

advantage of a mix = sum_j w_j normalise(r_j)         "within group": each reward has its own mean and spread in a group (MixGRPO, 2507.21802)
                   = normalise(sum_j w_j r_j)         "raw"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ConfigError, TrainingError
from ..objective.advantage import compute_advantages, normalise, zero_spread
from ..types import Reward

Normalise = Literal["within group", "raw"]
RANGE_SLACK = 1e-3
"""How far beyond [0, 1] a decoder's rounding may reach."""


def score(reward: Reward, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Call `reward` and check what goes in and what comes out: (N,) fp32 on the CPU, finite, or NaN for an image that a reward with
    `may_abstain` did not score. ConfigError for images that are none, TrainingError for another answer; both name the reward.
    """
    check_images(reward.name, images, prompts)
    scores = torch.as_tensor(reward(images, prompts)).detach().float().cpu()
    if scores.shape != (len(images),):
        raise TrainingError(f"reward {reward.name}: returned shape {tuple(scores.shape)} for {len(images)} images: return one number an image")
    allowed = scores.isnan() if getattr(reward, "may_abstain", False) else torch.zeros_like(scores, dtype=torch.bool)
    bad = (~(scores.isfinite() | allowed)).nonzero().flatten().tolist()
    if bad:
        value, prompt = scores[bad[0]].item(), prompts[bad[0]]
        raise TrainingError(
            f"reward {reward.name}: returned {value} for {len(bad)} of {len(scores)} images (first prompt: {prompt!r}): it must be finite"
        )
    return scores


def check_images(reward: str, images: Tensor, prompts: Sequence[str]) -> None:
    """ConfigError unless `images` are (N, H, W, 3) in [0, 1], one for each of the prompts."""
    where = f"images: reward {reward} was given"
    if images.ndim != 4 or not images.numel():
        raise ConfigError(f"{where} a tensor of shape {tuple(images.shape)}: images are (N, height, width, 3), at least one")
    if images.shape[-1] != 3:
        remedy = "take the transparency off, such as with Split Image with Alpha" if images.shape[-1] == 4 else "rewards score RGB images"
        raise ConfigError(f"{where} images with {images.shape[-1]} channels instead of 3: {remedy}")
    if len(prompts) != len(images):
        raise ConfigError(f"prompts: reward {reward} was given {len(prompts)} for {len(images)} images: one an image")
    low, high = (value.item() for value in images.aminmax())
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # False for NaN too
        raise ConfigError(f"{where} values from {low:.4g} to {high:.4g}: images hold values from 0 to 1; divide 8-bit values by 255")


def require_spread(scores: Mapping[str, Tensor]) -> None:
    """Raise ConfigError if every reward gave one and the same number to all images: nothing can be learnt from that."""
    if all(len(values) > 1 and bool(zero_spread(values.flatten())) for values in scores.values()):
        shown = ", ".join(f"{name} = {values.flatten()[0].item():.6g}" for name, values in scores.items())
        count = len(next(iter(scores.values())).flatten())
        raise ConfigError(f"reward: {shown} for all {count} images: it can not tell them apart; connect a reward that grades these images")


@dataclass(frozen=True)
class Scores:
    """Raw scores of images by one or several rewards, and how the rewards are weighed. NaN is "not scored"."""

    values: Mapping[str, Tensor]  # {reward name: (..., G)}, or (N,) of images that are in no group
    weights: tuple[float, ...] = (1.0,)
    normalise: Normalise = "within group"

    def total(self) -> Tensor:
        """sum_j w_j r_j of the raw scores, whatever `normalise` is: the figure of logs and evaluations. NaN where one that counts is."""
        return _weighted(self.values.values(), self.weights)

    def advantages(self, clip: float) -> Tensor:
        """The advantages (..., G) within groups along the last axis."""
        if self.normalise == "raw":
            return compute_advantages(self.total(), clip)
        return _weighted((normalise(values) for values in self.values.values()), self.weights).clamp(-clip, clip)

    def view(self, *shape: int) -> Scores:
        """The same scores, each reward's as `shape`, such as (prompts, K, G)."""
        return replace(self, values={name: values.view(shape) for name, values in self.values.items()})


def _weighted(values: Iterable[Tensor], weights: Iterable[float]) -> Tensor:
    return torch.stack([w * r if w else torch.zeros_like(r) for w, r in zip(weights, values, strict=True)]).sum(0)


@dataclass(frozen=True)
class RewardMix:
    """Several rewards with weights; a single reward is a mix of one, and a mix is a reward."""

    rewards: tuple[Reward, ...]
    weights: tuple[float, ...]
    normalise: Normalise = "within group"

    def __post_init__(self) -> None:
        if not self.rewards or len(self.rewards) != len(self.weights):
            raise ConfigError(f"weights: {len(self.weights)} for {len(self.rewards)} rewards: give one weight a reward, and one reward at least")
        if self.normalise not in get_args(Normalise):
            raise ConfigError(f"normalise: {self.normalise!r} is not known: choose one of {', '.join(get_args(Normalise))}")
        if not any(self.weights):
            raise ConfigError("weights: all are 0: give at least one reward a weight")
        described = [describe(reward) for reward in self.rewards]
        for reward, own in zip(self.rewards, described, strict=True):
            if described.count(own) > 1:
                raise ConfigError(f"reward: {reward.name!r} is in the mix {described.count(own)} times: connect it once and raise its weight")

    @property
    def name(self) -> str:
        """The names of its rewards."""
        return " + ".join(self.names)

    @property
    def may_abstain(self) -> bool:
        """Whether one of its rewards may leave an image without a score."""
        return any(getattr(reward, "may_abstain", False) for reward in self.rewards)

    @property
    def names(self) -> tuple[str, ...]:
        """Its rewards' names; a second one of the same kind, with other settings, gets a number."""
        plain = [reward.name for reward in self.rewards]
        return tuple(name if name not in plain[:i] else f"{name} {plain[: i + 1].count(name)}" for i, name in enumerate(plain))

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """The weighted raw sum: a mix is a reward itself, for a judge or for another mix."""
        return self.score(images, prompts).total()

    @classmethod
    def of(cls, reward: Reward | RewardMix) -> RewardMix:
        """`reward` itself if it is a mix, else a mix of that one."""
        return reward if isinstance(reward, RewardMix) else cls((reward,), (1.0,))

    def score(self, images: Tensor, prompts: Sequence[str]) -> Scores:
        """Raw, checked scores (N,) of every reward."""
        values = {name: score(reward, images, prompts) for name, reward in zip(self.names, self.rewards, strict=True)}
        return Scores(values, self.weights, self.normalise)

    def describe(self) -> dict[str, object]:
        """The mix as JSON values, for recipes."""
        return {"rewards": [describe(r) for r in self.rewards], "weights": list(self.weights), "normalise": self.normalise}


def describe(reward: Reward) -> dict[str, object]:
    """A reward as JSON values: its name, and its settings if it has a describe() of its own."""
    own = getattr(reward, "describe", None)
    return {"name": reward.name, **(own() if own else {})}
