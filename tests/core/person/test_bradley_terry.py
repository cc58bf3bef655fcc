"""Scores from answers, against optimisers and closed conditions of their own."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from pave_core.person.bradley_terry import scores_of
from pave_core.person.choice import Choice


def click(place, n):
    return Choice("ranked", ((place,), tuple(i for i in range(n) if i != place)))


@st.composite
def choices(draw):
    """(a ranked choice, how many images there are); some images are in no tier."""
    n = draw(st.integers(1, 8))
    order = draw(st.permutations(range(n)))
    order = order[: draw(st.integers(1, n))]
    cuts = sorted(draw(st.sets(st.integers(1, len(order) - 1), max_size=len(order) - 1))) if len(order) > 1 else []
    return Choice("ranked", tuple(tuple(order[a:b]) for a, b in itertools.pairwise([0, *cuts, len(order)]))), n


@given(choices())
@settings(max_examples=60, deadline=None)
def test_the_scores_are_the_optimum_that_scipy_finds(made):
    choice, n = made
    pairs = [(i, j) for a, b in itertools.combinations(choice.tiers, 2) for i in a for j in b]

    def loss(s):
        return sum(np.log1p(np.exp(s[j] - s[i])) for i, j in pairs) + (s**2).sum() / 2

    oracle = minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-9}).x
    judged = sorted(place for tier in choice.tiers for place in tier)
    found = scores_of(choice, n)
    assert found.isfinite().nonzero().flatten().tolist() == judged
    np.testing.assert_allclose(found[judged], oracle[judged], atol=1e-5)


@given(choices())
@settings(max_examples=60, deadline=None)
def test_a_better_tier_has_higher_scores_and_a_tier_equal_ones(made):
    choice, n = made
    tiers = [scores_of(choice, n)[list(tier)] for tier in choice.tiers]
    for tier in tiers:
        assert (tier - tier[0]).abs().max() < 1e-6
    for better, worse in itertools.pairwise(tiers):
        assert better.min() > worse.max()
    assert abs(torch.cat(tiers).sum()) < 1e-5


@pytest.mark.parametrize("n", [2, 3, 12, 64])
def test_one_click_is_what_its_equation_says(n):
    """By symmetry all others have one score, -s / (n - 1), and the gradient of s is (n - 1) (1 - sigmoid(gap)) - s."""
    s = brentq(lambda s: (n - 1) / (1 + math.exp(s + s / (n - 1))) - s, 0, n)
    found = scores_of(click(1, n), n)
    assert found[1].item() == pytest.approx(s, abs=1e-6)
    assert found[0].item() == pytest.approx(-s / (n - 1), abs=1e-6)


def test_the_opposite_answer_has_the_opposite_scores():
    tiers = ((3,), (0, 2), (1,))
    there, back = scores_of(Choice("ranked", tiers), 5), scores_of(Choice("ranked", tiers[::-1]), 5)
    torch.testing.assert_close(there, -back, equal_nan=True)


def test_it_does_not_matter_where_an_image_is_shown():
    order = [4, 2, 0, 3, 1]
    plain = scores_of(Choice("ranked", ((0,), (1, 2), (3, 4))), 5)
    moved = scores_of(Choice("ranked", ((order[0],), (order[1], order[2]), (order[3], order[4]))), 5)
    torch.testing.assert_close(moved[order], plain)


@pytest.mark.parametrize("kind", ["none", "skipped"])
def test_where_nothing_was_said_there_are_no_scores(kind):
    assert scores_of(Choice(kind), 4).isnan().tolist() == [True] * 4
    assert scores_of(Choice("ranked", ((2,),)), 4).nan_to_num(7).tolist() == [7, 7, 0, 7]
