"""How bytes grow with the size."""

import pytest

from pave_core.memory.growth import Growth


def test_it_goes_through_its_points_and_on_along_their_polynomial():
    def f(x):
        return 7 + 3 * x + 0.5 * x * x

    found = Growth.through({16: f(16), 256: f(256), 64: f(64)})
    assert (found.constant, found.linear, found.square) == pytest.approx((7, 3, 0.5))
    assert found.at(4096) == pytest.approx(f(4096))


def test_two_points_are_a_line_and_one_a_line_from_nothing():
    assert Growth.through({10: 25.0, 20: 45.0}) == Growth(5.0, 2.0)
    assert Growth.through({10: 25.0}) == Growth(linear=2.5)
    assert Growth.through({10: 25.0}).at(40) == 100


def test_there_are_never_less_than_no_bytes():
    assert Growth(-100.0, 1.0).at(50) == 0
    assert Growth(-100.0, 1.0).at(150) == 50


def test_sums_and_multiples():
    a, b = Growth(1, 2, 3), Growth(10, 20, 30)
    assert (a + b).at(7) == a.at(7) + b.at(7)
    assert (a * 3).at(7) == 3 * a.at(7)
