"""Rows of a batch that a network cannot take in one call: those that can be called together, group by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def by_groups(
    call: Callable[[Tensor, Tensor, T], Tensor], x: Tensor, sigma: Tensor, groups: Sequence[tuple[Sequence[int], T]]
) -> Tensor:
    """x (B, *S), sigma (B,) and groups (rows, what) -> the values (B, *S) of call(x, sigma, what) for each of them."""
    if len(groups) == 1:
        return call(x, sigma, groups[0][1])
    found: dict[int, Tensor] = {}
    for rows, what in groups:
        found |= zip(rows, call(_rows(x, rows), _rows(sigma, rows), what).split(1), strict=True)
    return torch.cat([found[i] for i in range(len(x))])


def _rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """tensor[rows] by slices: a list as an index is copied to the device, which waits."""
    return torch.cat([tensor[i : i + 1] for i in rows])
