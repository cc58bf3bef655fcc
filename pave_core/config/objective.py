"""The settings of the objective (objective/loss.py).

loss = 1/|K| sum_k u_k [ plain_weight L_1 + 1/|S| sum_{n in S} w_n L_n ]          the paper's weights are all 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ConfigError
from .combinations import check_combinations
from .fields import check, joined, setting

Variance = Literal["reference", "matched", "span"]
Residual = Literal["noise", "image"]
Ratio = Literal["unclipped", "clip", "divergence mask"]
_NO_NEGATIVE = "a negative weight would train away from the reward; the paper uses 1"


@dataclass(frozen=True)
class PaveConfig:
    """The segment set S, the weights of the loss's terms, and what keeps the policy near an earlier one."""

    segments: tuple[int, ...] = setting(
        (2, 3),
        "More is learnt from the same images, for more time and memory of the update: 2, 3 is the paper's, 2 has "
        "most of the gain for less, empty is plain GRPO. Into how many finer steps S each branch step is decomposed "
        "in the loss.",
        low=2,
        high=64,
        most=16,
        remedy="1 is the plain step, which is always there; leave the field empty for plain GRPO",
    )
    advantage_clip: float = setting(
        5.0,
        "Keeps one odd image from ruling a step; rarely matters. Advantages are clamped to plus and minus this.",
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
        most=16,
        expert=True,
        remedy=_NO_NEGATIVE,
    )
    variance: Variance = setting(
        "reference",
        "The noise by which finer steps are judged. reference: that of their own last step (the released code), which "
        "gives them more weight than the plain step. matched: that of the plain step. span: one step at the mean "
        "velocity of the finer ones.",
        options=get_args(Variance),
        expert=True,
    )
    residual: Residual = setting(
        "noise",
        "What finer steps are held against. image: where the image is, as published. noise: as far from where they "
        "lead as the image is from where the plain step led, which is the noise that was drawn. For branches both are "
        "the same; trajectories with image learn the error of their large steps too.",
        options=get_args(Residual),
        expert=True,
    )
    updates_per_rollout: int = setting(
        1,
        "Optimizer steps made with the images of a training step. Above 1 a ratio of new to old probability corrects "
        "for what has changed since they were drawn.",
        low=1,
        high=4,
        expert=True,
        remedy="the released code makes 1",
    )
    ratio: Ratio = setting(
        "unclipped",
        "What limits the ratio when a rollout is used for several updates. clip: PPO's, at clip_range. divergence "
        "mask: Flow-DPPO's, at max_divergence.",
        options=get_args(Ratio),
        expert=True,
    )
    clip_range: float = setting(
        1e-4,
        "How far the ratio may be from 1 with clip. Log-probabilities are means over a latent's elements, so that it "
        "is small.",
        low=1e-7,
        high=1.0,
        step=1e-7,
        expert=True,
        remedy="Flow-GRPO and DanceGRPO use 1e-4",
    )
    max_divergence: float = setting(
        1e-5,
        "With divergence mask: from this divergence between new and old policy on, only what brings them together "
        "again counts.",
        low=1e-9,
        high=1.0,
        step=1e-9,
        expert=True,
        remedy="Flow-DPPO uses 1e-5",
    )
    kl_weight: float = setting(
        0.0,
        "beta: the weight of the divergence from MODEL as it was connected, its LoRAs included. Above 0 the model "
        "stays nearer to it, for one more network call for each.",
        low=0.0,
        high=1000.0,
        step=0.001,
        expert=True,
        remedy="0 switches it off; Flow-GRPO's 0.004 to 0.04, without the step's length, are about 0.001 here",
    )
    step_weights: tuple[float, ...] = setting(
        (),
        "A weight for each of the branch steps, in their order, such as 1, 0.5. Empty: all 1, as in the paper.",
        low=0,
        high=100,
        most=64,
        expert=True,
        remedy=_NO_NEGATIVE,
    )
    global_advantage: bool = setting(
        False,
        "Add to an image's advantage in its group how it compares with the running mean over prompts (AdaGRPO). Needs "
        "candidates in Pave Rollout Settings.",
        expert=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if len(set(self.segments)) != len(self.segments):
            raise ConfigError(f"segments: {joined(self.segments)} repeats a number: write each once")
        check_combinations(self)
        self._sort()
        if not any(self.weights().values()):
            raise ConfigError("plain_weight: all terms of the loss have weight 0: give one a positive weight")
        if self.step_weights and not any(self.step_weights):
            raise ConfigError("step_weights: all branch steps have weight 0: give one a positive weight")

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
