"""The optimizer: AdamW on the adapter, a learning rate that is a function of the step, gradient clipping by global norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from .config import OptimConfig


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with the settings of `config`."""
    return torch.optim.AdamW(parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


def learning_rate(config: OptimConfig, step: int) -> float:
    """The rate at optimizer step `step`, counted from 0: a linear warm-up over `warmup_steps`, then constant."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    return config.learning_rate


def clip_and_step(optimizer: torch.optim.Optimizer, config: OptimConfig, step: int) -> float:
    """Clip the gradients, step, clear them; return the norm before clipping. With a non-finite norm the weights are left alone."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
    if math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
