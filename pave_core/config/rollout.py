"""The settings of a rollout: T, K, G and eta of the method."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .fields import check, joined, setting


@dataclass(frozen=True)
class RolloutConfig:
    """How images are sampled in a training step. The defaults are the paper's."""

    steps: int = setting(
        16,
        "T: denoising steps of an image while training. Few are enough: the loss decomposes them into finer ones.",
        low=2,
        high=200,
        remedy="a branch step and the step after it are needed; the paper uses 16",
    )
    branch_steps: tuple[int, ...] = setting(
        (0, 2, 4, 6), "K: the denoising steps that explore. Counted from 0; the last step cannot be one."
    )
    group_size: int = setting(
        12,
        "G: images compared with each other at each branch step. A training step makes prompts x K x G images.",
        low=2,
        high=64,
        remedy="an advantage compares the images of a group; the paper uses 12",
    )
    eta: float = setting(
        0.8,
        "How much noise a branch step adds. More explores further.",
        low=0.01,
        high=2.0,
        step=0.01,
        remedy="without noise all branches are the same image; the paper uses 0.8",
    )
    batch_size: int = setting(
        4,
        "Images in one network call. Lower it if memory runs out; it does not change what is learnt.",
        low=1,
        high=256,
        expert=True,
        remedy="use 1 for the least memory",
    )

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "branch_steps", tuple(sorted(self.branch_steps)))
        if not self.branch_steps:
            raise ConfigError("branch_steps: empty: name at least one step, such as 0, 2, 4, 6")
        for k in self.branch_steps:
            if not 0 <= k < self.steps:
                raise ConfigError(f"branch_steps: {k} is outside [0, {self.steps}): lower it or raise steps")
            if k == self.steps - 1:
                raise ConfigError(
                    f"branch_steps: {k} is the last of {self.steps} steps, whose noise would stay in the image: use at "
                    f"most {k - 1}"
                )
        if len(set(self.branch_steps)) != len(self.branch_steps):
            raise ConfigError(f"branch_steps: {joined(self.branch_steps)} repeats a step: write each once")

    @property
    def images(self) -> int:
        """K * G, the number of scored images of one prompt."""
        return len(self.branch_steps) * self.group_size
