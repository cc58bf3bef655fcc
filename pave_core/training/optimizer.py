"""The optimizer of the adapter: its learning rate as a function of the step, and clipping by the gradient's norm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..config.optimizer import OptimConfig


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """The torch optimizer that `config` names, with its settings."""
    shared: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    match config.optimizer:
        case "SGD":
            return torch.optim.SGD(parameters, momentum=config.betas[0], **shared)
        case "RMSprop":
            return torch.optim.RMSprop(parameters, alpha=config.betas[1], **shared)
        case adaptive:
            return getattr(torch.optim, adaptive)(parameters, betas=config.betas, **shared)


def learning_rate(config: OptimConfig, step: int) -> float:
    """The learning rate at optimizer step `step`, counted from 0.

    A linear warm-up over config.warmup_steps; then constant, or falling to 0 at config.decay_steps as a line or half a
    cosine.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = min((step - config.warmup_steps) / (config.decay_steps - config.warmup_steps), 1.0)
    return config.learning_rate * (
        1 - progress if config.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    )


def clip_and_step(optimizer: torch.optim.Optimizer, config: OptimConfig, rate: float) -> float:
    """Clip the gradients, step at the learning rate `rate`, and clear the gradients. Returns the norm before clipping.

    With a norm that is not finite, the weights are left as they are.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
    if math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
