"""Sigma grids."""

import pytest

from pave_core.errors import ConfigError
from pave_core.flow.schedule import check_sigmas, shifted_sigmas


def test_the_shifted_grid():
    grid = shifted_sigmas(4, 3.0)
    assert grid == pytest.approx((1.0, 0.9, 0.75, 0.5, 0.0))
    assert shifted_sigmas(2, 1.0) == (1.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("steps", "shift", "message"), [(0, 3.0, "steps: 0 is below 1"), (4, 0.0, "shift: 0.0 is not positive")]
)
def test_a_grid_that_cannot_be_is_refused(steps, shift, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        shifted_sigmas(steps, shift)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (4, 3.0), (200, 12.0)])
def test_every_shifted_grid_is_one_that_can_be_sampled_on(steps, shift):
    grid = shifted_sigmas(steps, shift)
    assert check_sigmas(grid, steps) == grid


@pytest.mark.parametrize(
    ("sigmas", "steps", "message"),
    [
        ([1, 0.5, 0.5, 0], 3, "sigmas: .* do not fall strictly"),
        ([14.6, 1.0, 0], 2, "sigmas: 14.6"),
        ([1, 0.5, 0.1], 2, "sigmas: .* to 0: choose another scheduler"),
        ([1, 0.5, 0], 3, "sigmas: 3 values for 3 steps, expected 4"),
    ],
)
def test_sigmas_that_cannot_be_sampled_on_are_refused(sigmas, steps, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_sigmas(sigmas, steps)
