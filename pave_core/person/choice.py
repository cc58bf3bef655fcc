"""A question to a person, and the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
from torch import Tensor

from ..errors import ConfigError, quoted

Kind = Literal["ranked", "none", "skipped"]


@dataclass(frozen=True)
class Choice:
    """What a person said of the images of a question. ConfigError for tiers that contradict each other.

    ranked: every image of a tier is liked better than every image of the tiers after it; images of one tier are not
    compared, nor are those in no tier. A click on one image is a tier with it, and one with all others. none: none is
    liked. skipped: nothing is said.
    """

    kind: Kind
    tiers: tuple[tuple[int, ...], ...] = ()  # places of images, the best first; empty unless ranked

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"kind: {quoted(self.kind)} is not one of {', '.join(get_args(Kind))}")
        if (self.kind == "ranked") != bool(self.tiers) or not all(self.tiers):
            raise ConfigError(f"tiers: {quoted(self.tiers)} for {self.kind}: give images in each, for ranked alone")
        places = [place for tier in self.tiers for place in tier]
        if len(set(places)) < len(places) or any(place < 0 for place in places):
            raise ConfigError(f"tiers: {quoted(self.tiers)} do not name each image once, by a number from 0")

    @classmethod
    def of(cls, value: Any, images: int) -> Choice:
        """From JSON values, about this many images. ConfigError for anything else."""
        if not isinstance(value, dict) or value.keys() != {"kind", "tiers"} or not isinstance(value["tiers"], list):
            raise ConfigError(f"choice: {quoted(value)} is not an object with kind and tiers")
        if not all(isinstance(tier, list) and all(type(place) is int for place in tier) for tier in value["tiers"]):
            raise ConfigError(f"tiers: {quoted(value['tiers'])} are not lists of numbers of images")
        found = cls(value["kind"], tuple(map(tuple, value["tiers"])))
        if any(place >= images for tier in found.tiers for place in tier):
            raise ConfigError(f"tiers: {quoted(value['tiers'])} name an image that is not among the {images}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"kind": self.kind, "tiers": [list(tier) for tier in self.tiers]}

    def pairs(self) -> list[tuple[int, int]]:
        """(the better, the worse) of all images that were compared."""
        return [
            (better, worse)
            for place, tier in enumerate(self.tiers)
            for after in self.tiers[place + 1 :]
            for better in tier
            for worse in after
        ]


@dataclass(frozen=True, eq=False)
class Question:
    """Images of one prompt, to be compared."""

    prompt: str
    images: Tensor  # (n, H, W, 3) in 8 bits, on the CPU
    step: int | None = None  # of the run, counted from 1, and the run's seed: what they were drawn for; None: no run
    seed: int | None = None
    key: str = field(init=False)  # of the prompt and the pixels: the same question is asked once

    def __post_init__(self) -> None:
        pixels = np.ascontiguousarray(self.images.numpy())
        digest = hashlib.sha256(f"{pixels.shape}\n{self.prompt}\n".encode() + pixels.tobytes())
        object.__setattr__(self, "key", digest.hexdigest()[:32])


class Asker(Protocol):
    """Who puts questions to a person, and remembers the answers."""

    def put(self, questions: Sequence[Question]) -> None:
        """Show the questions already, and wait for no answer: they are asked next."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Choice]:
        """The answer to each; waits for the person. What was answered before is not asked again."""
        ...

    def answered(self) -> list[tuple[Question, Choice]]:
        """All that was answered so far in this run, the oldest first, but for what was withdrawn."""
        ...
