"""Scores from what comes over the wires of a graph: images of any size, and the numbers of other nodes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..config.fields import check_line
from ..errors import ConfigError, quoted
from ..types import Groups
from .mix import RewardMix, Scores

MAX_NAME = 100
"""The most characters of a name for scores: it is in the log and in the curve."""


def score(reward: RewardMix, pictures: Sequence[Tensor], texts: Sequence[str]) -> Scores:
    """Score N pictures (H, W, 3) with N texts, their prompts. Neighbours of the same size are scored in one call.

    A person is asked about neighbours of one prompt, which no other image may stand between.
    """
    parts = []
    with torch.inference_mode(False), torch.no_grad():
        for _, run in itertools.groupby(range(len(pictures)), key=lambda i: pictures[i].shape):
            places = list(run)
            images, prompts = torch.stack([pictures[i] for i in places]).clone(), [texts[i] for i in places]
            size = math.gcd(*(len(list(same)) for _, same in itertools.groupby(prompts)))
            parts.append(reward.score(images, prompts, groups=Groups(size) if size > 1 else None))
    return Scores(
        {name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values},
        reward.weights,
        reward.normalise,
    )


def scores_from_numbers(numbers: Sequence[object], name: str, weight: float, beside: Scores | None) -> Scores:
    """Scores from numbers, lists of numbers and tensors, in their order, under `name` and with `weight`.

    beside: other scores of the same images, to which these are added, or None. ConfigError for what is no number or not
    finite, for a weight that leaves nothing to learn, and where `beside` has the same name or another length.
    """
    values = torch.tensor(list(_numbers(numbers)))
    if not len(values):
        raise ConfigError("numbers: there are none: connect an output that gives one number per image")
    if not values.isfinite().all():
        place = int((~values.isfinite()).nonzero()[0])
        raise ConfigError(f"numbers: number {place + 1} of {len(values)} is {values[place].item()}: it must be finite")
    name = name.strip() or "graph"
    check_line("name", name, MAX_NAME)
    if not math.isfinite(weight):
        raise ConfigError(f"weight: {weight} is not finite: use 1, or -1 where lower numbers are better")
    if beside is None:
        if weight == 0:
            raise ConfigError("weight: 0 leaves nothing to learn from: use 1, or -1 where lower numbers are better")
        return Scores({name: values}, (weight,))
    if name in beside.values:
        raise ConfigError(f"name: {quoted(name)} is the name of scores that these are added to: choose another")
    for other, theirs in beside.values.items():
        if len(theirs) != len(values):
            raise ConfigError(
                f"numbers: {len(values)} beside {len(theirs)} of {other}: give one number for each of the same images"
            )
    return replace(beside, values={**beside.values, name: values}, weights=(*beside.weights, weight))


def _numbers(values: Sequence[object]) -> Iterator[float]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _numbers(value)
        elif isinstance(value, Tensor):
            yield from value.flatten().tolist()
        elif isinstance(value, int | float):
            yield float(value)
        else:
            raise ConfigError(
                f"numbers: {quoted(value)} is not a number: connect a FLOAT or INT output that gives one number per "
                "image"
            )
