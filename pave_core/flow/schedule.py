"""Sigma grids of flow models.

u = linspace(1, 0, T + 1),   sigma = s u / (1 + (s - 1) u)        SD3, arXiv 2403.03206, eq. 23

The paper's FLUX runs use the shift s = 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError


def shifted_sigmas(steps: int, shift: float) -> tuple[float, ...]:
    """The shifted grid of T = `steps` steps: T + 1 floats from 1 to 0.

    steps >= 1 and shift > 0, else ConfigError; a shift of 1 leaves the grid uniform.
    """
    if steps < 1:
        raise ConfigError(f"steps: {steps} is below 1: a schedule needs at least one step")
    if shift <= 0:
        raise ConfigError(f"shift: {shift} is not positive: use 1 for a uniform grid, 3 for the paper's")
    u = [1 - i / steps for i in range(steps + 1)]
    return tuple(shift * u_i / (1 + (shift - 1) * u_i) for u_i in u)


def check_sigmas(sigmas: Sequence[float], steps: int) -> tuple[float, ...]:
    """`sigmas` as T + 1 floats. ConfigError unless they fall strictly from at most 1 to 0, with T = `steps`."""
    grid = tuple(float(s) for s in sigmas)
    if len(grid) != steps + 1:
        raise ConfigError(
            f"sigmas: {len(grid)} values for {steps} steps, expected {steps + 1}: choose another scheduler or step "
            "count"
        )
    falling = all(a > b for a, b in zip(grid, grid[1:], strict=False))
    if not falling or grid[0] > 1 or grid[-1] != 0:
        shown = ", ".join(f"{s:.4f}" for s in grid)
        raise ConfigError(
            f"sigmas: {shown} do not fall strictly from at most 1 to 0: choose another scheduler (simple always works)"
        )
    return grid
