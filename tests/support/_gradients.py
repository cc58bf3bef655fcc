"""Finite differences as the oracle of a gradient."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor


def check_gradient(value: Callable[[], Tensor], parameters: Sequence[Tensor], seed: int = 0) -> float:
    """Compare autograd with central differences, along the gradient itself and along a random direction.

    value() is a scalar of about 1 in fp32, so that the differences are good to about a hundredth of the gradient.
    Returns how far they are from the gradient's length along it, relative to that.
    """
    value().backward()
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    length = _dot(gradient, gradient) ** 0.5
    assert length > 0

    def difference(direction: Sequence[Tensor], step: float) -> float:
        """The derivative along `direction`."""
        ends = []
        for place in (step, -2 * step):
            for p, d in zip(parameters, direction):
                p.add_(place * d)
            ends.append(value().item())
        for p, d in zip(parameters, direction):
            p.add_(step * d)
        return (ends[0] - ends[1]) / (2 * step)

    generator = torch.Generator().manual_seed(seed)
    along = [g / length for g in gradient]
    some = [torch.randn(p.shape, generator=generator) for p in parameters]
    with torch.no_grad():
        found = difference(along, 1e-2)
        assert found == pytest.approx(length, rel=2e-2)
        assert difference(some, 2e-3) == pytest.approx(_dot(gradient, some), abs=2e-2 * length)
    return abs(found - length) / length


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum((x * y).sum().item() for x, y in zip(a, b))
