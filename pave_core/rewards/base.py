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

from ..advantage import compute_advantages, normalise
from ..errors import ConfigError, TrainingError
from ..types import Reward

Normalise = Literal["within group", "raw"]


def score(reward: Reward, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Call `reward` and check the answer: (N,) finite fp32 on the CPU, else a TrainingError that names the reward."""
    scores = torch.as_tensor(reward(images, prompts)).detach().float().cpu()
    if scores.shape != (len(images),):
        raise TrainingError(f"reward {reward.name}: returned shape {tuple(scores.shape)} for {len(images)} images: return one number an image")
    bad = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if bad:
        value, prompt = scores[bad[0]].item(), prompts[bad[0]]
        raise TrainingError(
            f"reward {reward.name}: returned {value} for {len(bad)} of {len(scores)} images (first prompt: {prompt!r}): it must be finite"
        )
    return scores


def require_spread(scores: Mapping[str, Tensor]) -> None:
    """Raise ConfigError if every reward gave one and the same number to all images: nothing can be learnt from that."""
    if all(len(values) > 1 and values.amax() == values.amin() for values in scores.values()):
        shown = ", ".join(f"{name} = {values.flatten()[0].item():.6g}" for name, values in scores.items())
        count = len(next(iter(scores.values())).flatten())
        raise ConfigError(f"reward: {shown} for all {count} images: it can not tell them apart; connect a reward that grades these images")


@dataclass(frozen=True)
class Scores:
    """Raw scores of images by one or several rewards, and how the rewards are weighed."""

    values: Mapping[str, Tensor]  # {reward name: (..., G)}, or (N,) of images that are in no group
    weights: tuple[float, ...] = (1.0,)
    normalise: Normalise = "within group"

    def total(self) -> Tensor:
        """sum_j w_j r_j of the raw scores, whatever `normalise` is: the figure of logs and evaluations."""
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
    return torch.stack([w * r for w, r in zip(weights, values, strict=True)]).sum(0)


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
