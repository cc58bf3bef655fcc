"""Finite differences as the oracle of a gradient."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor


def check_gradient(value: Callable[[], Tensor], parameters: Sequence[Tensor], seed: int = 0, step: float = 2e-3) -> None:
    """Compare autograd with central differences, along the gradient itself and along a random direction of its length."""
    value().backward()
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    length = _dot(gradient, gradient) ** 0.5
    assert length > 0

    def at(direction: Sequence[Tensor], place: float) -> float:
        for p, d in zip(parameters, direction):
            p.add_(place * d)
        result = value().item()
        for p, d in zip(parameters, direction):
            p.sub_(place * d)
        return result

    generator = torch.Generator().manual_seed(seed)
    some = [torch.randn(p.shape, generator=generator) for p in parameters]
    scale = (sum(p.numel() for p in parameters)) ** 0.5 / length
    along = [g * scale for g in gradient]
    with torch.no_grad():
        for direction in (along, some):
            expected = (at(direction, step) - at(direction, -step)) / (2 * step)
            assert _dot(gradient, direction) == pytest.approx(expected, rel=2e-2, abs=2e-2 * length)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum((x * y).sum().item() for x, y in zip(a, b))
