"""The types that cross module boundaries.

*S in a shape is the latent shape without its batch axis, e.g. (16, 64, 64).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Cond = Any
"""What a policy makes of a prompt; opaque to the core."""

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""v(x (B, *S), sigma (B,)) -> (B, *S), with the prompt already bound."""


@dataclass(frozen=True)
class Gaussian:
    """An isotropic Gaussian over latents: mean (B, *S) fp32 and one standard deviation."""

    mean: Tensor
    std: float

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise; noise (N, *S) is broadcast against the mean's batch."""
        return self.mean + self.std * noise.to(self.mean)

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y), y (N, *S) -> (N,): the mean over latent elements, without the normaliser (it does not depend on the weights)."""
        error = (y.to(self.mean) - self.mean).flatten(1)
        return -error.square().mean(1) / (2 * self.std**2)


@dataclass(frozen=True)
class Rollout:
    """One prompt's samples: a deterministic anchor, and G branches from each of its K stochastic steps."""

    prompt: str
    cond: Cond
    sigmas: tuple[float, ...]  # T + 1
    branch_steps: tuple[int, ...]  # K
    starts: Tensor  # (K, 1, *S)     x_k, where the branches leave the anchor
    branches: Tensor  # (K, G, *S)   y_i at sigma_{k+1}, exactly as they were continued
    finals: Tensor  # (K, G, *S)     the branches at sigma 0
    anchor_final: Tensor  # (1, *S)


class Policy(Protocol):
    """A flow model with a trainable adapter. Every tensor it takes and gives is on `device`; solver maths is fp32."""

    device: torch.device
    latent_shape: tuple[int, ...]

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The sigma grid that generation uses, T + 1 floats from at most 1 to 0."""
        ...

    def encode(self, prompt: str) -> Cond:
        """Text to conditioning. Called once a prompt and run."""
        ...

    def velocity(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """v(x (B, *S), sigma (B,)) -> (B, *S) fp32, guidance included, differentiable in the adapter."""
        ...

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """The adapter's parameters by name, in a fixed order."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Inside this context the adapter is off: the base model."""
        ...

    def fingerprint(self) -> str:
        """A digest of the base model: equal for the same weights, different for another model."""
        ...


class Decoder(Protocol):
    """Latents to images."""

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) fp32 in [0, 1] on the CPU."""
        ...


class Reward(Protocol):
    """A score of images; higher is better.

    A reward that sometimes can not score an image (a judge whose reply makes no sense) has the attribute `may_abstain = True` and gives NaN for it:
    the image is then left out, and counted. Any other value that is not finite is an error.
    """

    @property
    def name(self) -> str:
        """A short name for logs and plots."""
        ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] on the CPU and N prompts -> (N,) fp32."""
        ...


class SegmentFigures(NamedTuple):
    """What chain n does in the loss (see loss.segment_figures)."""

    log_prob: float
    std: float
    push: float


@dataclass(frozen=True)
class StepMetrics:
    """What one training step did. Everything but `preview` goes to metrics.jsonl."""

    step: int  # counted from 1
    loss: float
    reward_mean: float  # weighted raw sum over all branches of the step
    reward_std: float  # mean over groups of the spread within the group
    rewards: dict[str, tuple[float, float]]  # each reward's own mean, and its spread within a group
    flat_groups: dict[str, int]  # by reward: the groups in which it gave all images the same number
    unscored: int  # images that a reward left without a score
    anchor_reward: float
    grad_norm: float  # before clipping
    learning_rate: float
    groups: int
    zero_spread_groups: int  # the mix gave all images the same number: nothing to learn
    skipped: bool  # non-finite loss or gradient: no optimizer step was made
    segments: dict[int, SegmentFigures]  # by n, 1 for the plain step: means over the step's branch steps
    seconds: dict[str, float]  # by phase
    prompts: tuple[str, ...]
    preview: Tensor | None  # (H, W, 3) the first prompt's anchor; None where no image was finite

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, without the preview."""
        record = {k: v for k, v in vars(self).items() if k != "preview"}
        return record | {
            "rewards": {k: list(v) for k, v in self.rewards.items()},
            "segments": {str(n): figures._asdict() for n, figures in self.segments.items()},
            "prompts": list(self.prompts),
        }
