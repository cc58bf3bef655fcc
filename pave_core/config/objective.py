"""The settings of the objective (objective/loss.py).

loss_k = plain_weight L_1 + 1/|S| sum_{n in S} w_n L_n          the paper's weights are all 1
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .fields import check, joined, setting

_NO_NEGATIVE = "a negative weight would train away from the reward; the paper uses 1"


@dataclass(frozen=True)
class PaveConfig:
    """The segment set S, the clamp of the advantages, and the weights of the loss's terms."""

    segments: tuple[int, ...] = setting(
        (2, 3), "S: each branch step is decomposed into this many finer steps in the loss. Empty is plain GRPO."
    )
    advantage_clip: float = setting(
        5.0,
        "Advantages are clamped to the range from minus this to plus this.",
        low=0.1,
        high=100.0,
        step=0.1,
        expert=True,
        remedy="the paper uses 5",
    )
    plain_weight: float = setting(
        1.0,
        "The weight of the plain, undecomposed step in the loss. The paper's is 1.",
        low=0.0,
        high=100.0,
        step=0.05,
        expert=True,
        remedy=_NO_NEGATIVE,
    )
    segment_weights: tuple[float, ...] = setting(
        (),
        "A weight for each of the segments, in their order, such as 1, 0.5. Empty: all 1, as in the paper.",
        low=0,
        high=100,
        expert=True,
        remedy=_NO_NEGATIVE,
    )

    def __post_init__(self) -> None:
        for n in self.segments:
            if n < 2:
                raise ConfigError(
                    f"segments: {n} is below 2: 1 is the plain step, which is always there; leave the field empty for "
                    "plain GRPO"
                )
        if len(set(self.segments)) != len(self.segments):
            raise ConfigError(f"segments: {joined(self.segments)} repeats a number: write each once")
        if self.segment_weights and len(self.segment_weights) != len(self.segments):
            raise ConfigError(
                f"segment_weights: {len(self.segment_weights)} for {len(self.segments)} segments: write one per "
                "segment, or leave the field empty"
            )
        check(self)
        self._sort()
        if not any(self.weights().values()):
            raise ConfigError("plain_weight: all terms of the loss have weight 0: give one a positive weight")

    def _sort(self) -> None:
        """Sort the segments in rising order, each with its weight."""
        order = sorted(range(len(self.segments)), key=lambda i: self.segments[i])
        for name in ("segments", "segment_weights"):
            values = getattr(self, name)
            object.__setattr__(self, name, tuple(values[i] for i in order) if values else ())

    def weights(self) -> dict[int, float]:
        """{n: weight of L_n}; n = 1 is the plain step."""
        return {
            1: self.plain_weight,
            **dict(zip(self.segments, self.segment_weights or (1.0,) * len(self.segments), strict=True)),
        }
