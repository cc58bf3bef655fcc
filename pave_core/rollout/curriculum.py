"""Which prompts a training step uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..config.train import TrainConfig
from ..errors import ConfigError
from ..seeds import seeded


def prompts_of_step(prompts: Sequence[str], config: TrainConfig, step: int) -> list[str]:
    """The prompts of step `step`, counted from 0. Over the steps, all prompts come in one random order after another.

    ConfigError if there are no prompts.
    """
    if not prompts:
        raise ConfigError("prompts: there are none to train on: write at least one, or keep fewer for evaluation")
    count = config.run.prompts_per_step
    chosen = []
    for position in range(step * count, (step + 1) * count):
        epoch, index = divmod(position, len(prompts))
        order = torch.randperm(len(prompts), generator=seeded(config.run.seed, "order", epoch))
        chosen.append(prompts[int(order[index])])
    return chosen
