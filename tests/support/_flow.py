"""Small tensors and velocities for tests of the formulas."""

import torch

SHAPE = (2, 3)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear_velocity(W):
    """v(x, sigma) = x W + sigma, whatever the conditionings."""
    return lambda x, sigma, conds: x @ W + sigma.view(-1, 1, 1)


def curved_velocity(W):
    """v(x, sigma) = tanh(x W + sigma), whatever the conditionings."""
    return lambda x, sigma, conds: torch.tanh(x @ W + sigma.view(-1, 1, 1))
