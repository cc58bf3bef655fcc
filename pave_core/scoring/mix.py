"""Mixes of rewards with weights, and the scores that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor

from ..batches import Batches
from ..errors import ConfigError, quoted
from ..types import Groups, Reward
from .groups import zero_spread
from .score import batches_of, describe, score

Normalise = Literal["within group", "raw"]


def require_spread(scores: Mapping[str, Tensor]) -> None:
    """ConfigError if every reward gave all images the same number: nothing can be learnt from that."""
    if all(bool(values.isnan().all()) for values in scores.values()):
        raise ConfigError(f"reward: {', '.join(scores)} scored none of the images: the log says why")
    if all(len(values) > 1 and bool(zero_spread(values.flatten())) for values in scores.values()):
        shown = ", ".join(f"{name} = {values.flatten()[0].item():.6g}" for name, values in scores.items())
        count = len(next(iter(scores.values())).flatten())
        raise ConfigError(
            f"reward: {shown} for all {count} images: it cannot tell them apart; connect a reward that grades these "
            "images"
        )


@dataclass(frozen=True)
class Scores:
    """Raw scores of images by one or several rewards, and how the rewards are weighted. NaN is "not scored"."""

    values: Mapping[str, Tensor]  # {reward name: (..., G)}, or (N,) of images that are in no group
    weights: tuple[float, ...] = (1.0,)
    normalise: Normalise = "within group"
    asked: bool = False  # whether a person was, who may have said nothing

    def total(self) -> Tensor:
        """sum_j w_j r_j of the raw scores, whatever `normalise` is: the reward in logs and evaluations.

        NaN for an image that a reward with a weight other than 0 did not score.
        """
        return weighted_sum(self.values.values(), self.weights)

    def view(self, *shape: int) -> Scores:
        """The same scores, each reward's as `shape`, such as (prompts, K, G)."""
        return replace(self, values={name: values.view(shape) for name, values in self.values.items()})


def weighted_sum(values: Iterable[Tensor], weights: Iterable[float]) -> Tensor:
    """sum_j w_j v_j, all v_j of one shape; a weight of 0 leaves its values out, NaN included."""
    return torch.stack([w * r if w else torch.zeros_like(r) for w, r in zip(weights, values, strict=True)]).sum(0)


@dataclass(frozen=True)
class RewardMix:
    """Several rewards with weights. A single reward is a mix of one, and a mix is itself a Reward.

    ConfigError if there are no rewards or not as many weights, if all weights are 0, or if a reward occurs twice. A
    person is asked by the outermost mix alone: one in a mix within a mix is a ConfigError.
    """

    rewards: tuple[Reward, ...]
    weights: tuple[float, ...]
    normalise: Normalise = "within group"
    _batches: tuple[Batches, ...] = field(init=False, repr=False, compare=False)  # for each reward

    def __post_init__(self) -> None:
        object.__setattr__(self, "_batches", tuple(map(batches_of, self.rewards)))
        if not self.rewards or len(self.rewards) != len(self.weights):
            raise ConfigError(
                f"weights: {len(self.weights)} for {len(self.rewards)} rewards: give one weight per reward, and at "
                "least one reward"
            )
        if self.normalise not in get_args(Normalise):
            raise ConfigError(
                f"normalise: {quoted(self.normalise)} is not known: choose one of {', '.join(get_args(Normalise))}"
            )
        if not all(map(isfinite, self.weights)):
            raise ConfigError(f"weights: {quoted(self.weights)} are not all finite: give numbers")
        if not any(self.weights):
            raise ConfigError("weights: all are 0: give at least one reward a weight")
        if any(isinstance(reward, RewardMix) and reward.asks for reward in self.rewards):
            raise ConfigError(
                "reward: a mix that asks a person is part of another mix, where nobody would be asked: connect the "
                "person to the last mix"
            )
        described = [describe(reward) for reward in self.rewards]
        for reward, own in zip(self.rewards, described, strict=True):
            if described.count(own) > 1:
                raise ConfigError(
                    f"reward: {quoted(reward.name)} is in the mix {described.count(own)} times: connect it once and "
                    "raise its weight"
                )

    @property
    def name(self) -> str:
        """The names of its rewards, joined by " + "."""
        return " + ".join(self.names)

    @property
    def may_abstain(self) -> bool:
        """Whether one of its rewards may leave an image without a score."""
        return any(getattr(reward, "may_abstain", False) for reward in self.rewards)

    @property
    def asks(self) -> bool:
        """Whether one of its rewards asks a person about the images that are trained on."""
        return any(hasattr(reward, "ask") for reward in self.rewards)

    @property
    def unasked(self) -> RewardMix | None:
        """The mix of its rewards that ask nobody; None where there are none, or with a weight of 0 alone."""
        kept = [(r, w) for r, w in zip(self.rewards, self.weights, strict=True) if not hasattr(r, "ask")]
        if not any(weight for _, weight in kept):
            return None
        return RewardMix(tuple(r for r, _ in kept), tuple(w for _, w in kept), self.normalise)

    @property
    def names(self) -> tuple[str, ...]:
        """Its rewards' names; a second one of the same kind, with other settings, gets a number."""
        plain = [reward.name for reward in self.rewards]
        return tuple(
            name if name not in plain[:i] else f"{name} {plain[: i + 1].count(name)}" for i, name in enumerate(plain)
        )

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> the weighted raw sum (N,), for a judge or another mix."""
        return self.score(images, prompts).total()

    @classmethod
    def of(cls, reward: Reward | RewardMix) -> RewardMix:
        """`reward` itself if it is a mix, else a mix of that one."""
        return reward if isinstance(reward, RewardMix) else cls((reward,), (1.0,))

    def put(self, images: Tensor, prompts: Sequence[str], groups: Groups) -> None:
        """Show people already what score() will ask them about images of training groups."""
        for reward in self.rewards:
            if (put := getattr(reward, "put", None)) is not None:
                put(images, prompts, groups)

    def score(
        self,
        images: Tensor,
        prompts: Sequence[str],
        *,
        groups: Groups | None = None,
        features: Mapping[str, Tensor] = MappingProxyType({}),
        told: Callable[[int, int], None] = lambda done, whole: None,
    ) -> Scores:
        """Every reward's raw scores (N,) of images (N, H, W, 3) in [0, 1] with N prompts, checked as by score().

        groups: the images are those of training groups, one after the other, and rewards that ask are asked; None:
        nobody is asked. features: what features() gave of these images. told: how many rewards are done, of
        how many.
        """
        values: dict[str, Tensor] = {}
        for name, reward, batches in zip(self.names, self.rewards, self._batches, strict=True):
            told(len(values), len(self.rewards))
            ask = None if groups is None else getattr(reward, "ask", None)
            if ask is not None:
                values[name] = score(reward, images, prompts, asked=partial(ask, groups=groups))
            elif name in features:
                values[name] = reward.of_features(features[name])  # pyright: ignore[reportAttributeAccessIssue]
            else:
                values[name] = score(reward, images, prompts, batches)
        return Scores(values, self.weights, self.normalise, asked=groups is not None and self.asks)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """{reward name: (N, D)} of images (N, H, W, 3), for rewards whose scores change as they learn (see Reward)."""
        parts = zip(self.names, self.rewards, strict=True)
        return {
            name: reward.features(images)  # pyright: ignore[reportAttributeAccessIssue]
            for name, reward in parts
            if getattr(reward, "learns", False)
        }

    def scored_again(self, scores: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Scores:
        """Earlier scores {reward name: (N,)}, those with features as their rewards would score now."""
        rewards = dict(zip(self.names, self.rewards, strict=True))
        now = {name: rewards[name].of_features(values) for name, values in features.items()}  # pyright: ignore[reportAttributeAccessIssue]
        return Scores({**scores, **now}, self.weights, self.normalise)

    def describe(self) -> dict[str, object]:
        """The mix as JSON values, for recipes."""
        return {
            "rewards": [describe(r) for r in self.rewards],
            "weights": list(self.weights),
            "normalise": self.normalise,
        }
