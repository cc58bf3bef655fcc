"""The types that cross module boundaries.

*S in a shape is the latent shape without its batch axis, e.g. (16, 64, 64).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

Cond = Any
"""What a policy makes of a prompt; opaque to the core."""

VelocityFn = Callable[[Tensor, Tensor, Sequence[Cond]], Tensor]
"""Policy.velocity: v(x (B, *S), sigma (B,), B conditionings) -> (B, *S)."""

Progress = Callable[[str, int, int], None]
"""Told of long work: what is being done ("measuring"), how many are done, of how many."""


def nobody(what: str, done: int, whole: int) -> None:
    """Tell nobody of progress."""


@dataclass(frozen=True)
class Gaussian:
    """An isotropic Gaussian over latents: mean (B, *S) fp32 and one standard deviation."""

    mean: Tensor
    std: float

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise; noise (N, *S) is broadcast against the mean's batch."""
        return self.mean + self.std * noise.to(self.mean)

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y), y (N, *S) -> (N,): the mean over latent elements, without the normaliser.

        The normaliser does not depend on the weights, so that it has no gradient.
        """
        error = (y.to(self.mean) - self.mean).flatten(1)
        return -error.square().mean(1) / (2 * self.std**2)

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(self || other) of two Gaussians with the std of `self` -> (B,), as a mean over latent elements.

        |mean - mean'|^2 / (2 std^2)
        """
        return -self.log_prob(other.mean)

    def detach(self) -> Gaussian:
        """The same Gaussian as a constant."""
        return Gaussian(self.mean.detach(), self.std)


@dataclass(frozen=True)
class Rollout:
    """One prompt's samples: a deterministic anchor, and what was sampled at each of K stochastic steps.

    Branches leave the anchor: N = 1, each step has G images of its own, F = K. Trajectories have a state of their own
    at every step: N = G (1 where all leave the anchor at the only step), and there are G images in all, F = 1. Each
    image is finished M times, on finer and coarser tails.
    """

    prompt: str
    cond: Cond
    sigmas: tuple[float, ...]  # T + 1
    branch_steps: tuple[int, ...]  # K
    starts: Tensor  # (K, N, *S)     x_k, from which was sampled
    branches: Tensor  # (K, G, *S)   y_i at sigma_{k+1}, exactly as they were continued
    finals: Tensor  # (M, F, G, *S)  the same at sigma 0
    anchor_final: Tensor  # (1, *S)

    @property
    def images(self) -> int:
        """M * F * G."""
        return self.finals.shape[:3].numel()


@dataclass(frozen=True)
class GradientCheck:
    """What the first gradient of a run showed."""

    idle: tuple[str, ...]  # the layers that change nothing
    text: str  # for the log


class Policy(Protocol):
    """A flow model with a trainable adapter. All tensors that it takes and returns are on `device`."""

    device: torch.device
    latent_shape: tuple[int, ...]
    loss_scale: float
    """What the loss is multiplied with for the backward pass: above 1 where the network computes in fp16."""

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The sigma grid that generation uses: with T = `steps`, T + 1 floats that fall from at most 1 to 0."""
        ...

    def encode(self, prompt: str) -> Cond:
        """Text to conditioning. Called once per prompt and run."""
        ...

    def velocity(self, x: Tensor, sigma: Tensor, conds: Sequence[Cond]) -> Tensor:
        """v(x (B, *S), sigma (B,), B conditionings) -> (B, *S) fp32, guidance included, differentiable in the adapter.

        Items may differ in sigma and prompt.
        """
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


class RunPolicy(Policy, Protocol):
    """A Policy that a run can own. It is used inside its own `with` block, where the adapter is in the model."""

    def __enter__(self) -> Policy: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def is_base(self, fingerprint: str) -> bool:
        """Whether a fingerprint, of this version or an earlier one, is this base model's."""
        ...

    def probe(self, cond: Cond) -> None:
        """One call of the network; ConfigError if it cannot take latents of latent_shape, or gives no finite values.

        After sigmas().
        """
        ...

    def remarks(self) -> Sequence[str]:
        """What people should know of the model before a run begins: warnings."""
        ...

    def export(self, values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The adapter on the CPU, under the keys of the host's LoRA loaders.

        values: the parameters of an earlier state, by the names of parameters(); None: the current ones.
        """
        ...

    def check_gradient(self, cond: Cond) -> GradientCheck:
        """Look at one gradient of the fresh adapter. ConfigError where it cannot be trusted."""
        ...

    def leave_out(self, layers: Collection[str]) -> None:
        """Take layers, by their names, out of the adapter, whose parameters() are fewer afterwards."""
        ...

    def rest(self) -> None:
        """The run has ended: leave the device to others, until the next `with` block."""
        ...

    def describe(self) -> dict[str, Any]:
        """The policy's part of a recipe, such as how it samples, as plain JSON values."""
        ...


class Decoder(Protocol):
    """Latents to images."""

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) fp32 in [0, 1] on the CPU."""
        ...


@dataclass(frozen=True)
class Groups:
    """How training compares images: so many in a row with each other."""

    size: int
    step: int | None = None  # of the run, counted from 1, and the run's seed: what they were drawn for; None: no run
    seed: int | None = None


class Reward(Protocol):
    """A score of images; higher is better.

    A reward that sometimes cannot score an image (a judge whose reply makes no sense) has the attribute
    `may_abstain = True` and gives NaN for it: the image is then left out, and counted. Any other value that is not
    finite is an error.

    A reward that asks a person has `ask(images, prompts, group)`, which is called in place of __call__ for the images
    of training groups, `group` images in a row, all of a step at once; __call__ asks nobody and may abstain. One whose
    scores change as it learns has `learns`, `features(images) -> (N, D)` and `of_features(features) -> (N,)`, so that
    images that are gone can be scored again.
    """

    @property
    def name(self) -> str:
        """A short name for logs and plots."""
        ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] on the CPU and N prompts -> (N,) fp32."""
        ...
