"""Which prompts a step draws, and where it explores."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from _toy import toy_config
from pave_core.errors import ConfigError, TrainingError
from pave_core.rollout.curriculum import RunningStats, nearest, prompts_of_step, window
from pave_core.seeds import seeded


def test_every_prompt_has_its_turn():
    config, prompts = toy_config(), ["a", "b", "c"]
    chosen = [p for step in range(6) for p in prompts_of_step(prompts, config, step)]
    for epoch in range(4):
        assert sorted(chosen[3 * epoch : 3 * epoch + 3]) == prompts


def test_no_prompts_are_refused():
    with pytest.raises(ConfigError, match="^prompts: there are none to train on"):
        prompts_of_step([], toy_config(), 0)


def test_the_first_scores_are_the_first_statistics():
    scores = torch.rand(10, generator=seeded(0))
    stats = RunningStats.of(scores)
    assert (stats.mean, stats.var) == pytest.approx((np.mean(scores.numpy()), np.var(scores.numpy())))


def test_statistics_move_toward_new_scores():
    scores = torch.tensor([1.0, 3.0])
    old = RunningStats(7.0, 11.0)
    new = old.updated(scores)
    assert (new.mean, new.var) == pytest.approx((0.8 * 7 + 0.2 * 2, 0.8 * 11 + 0.2 * 1))
    assert old.updated(scores, decay=0.0) == RunningStats.of(scores)
    assert old.updated(scores, decay=1.0) == old


def test_images_without_a_score_are_left_out_of_the_statistics():
    nan = float("nan")
    assert RunningStats.of(torch.tensor([nan, 1.0, nan, 3.0])) == RunningStats(2.0, 1.0)
    for scored in (RunningStats.of, RunningStats(0.0, 1.0).updated):
        with pytest.raises(TrainingError, match="^candidates: the reward scored none of 2 images"):
            scored(torch.tensor([nan, nan]))


def test_the_nearest_candidates_are_chosen_the_first_of_two_as_near():
    scores = torch.tensor([3.0, 1.5, 0.5, float("nan"), -4.0, 1.5])
    assert nearest(scores, 1.0, 4) == [1, 2, 5, 0]
    assert nearest(scores, 1.4, 1) == [1]
    assert nearest(scores, 1.0, 6) == [1, 2, 5, 0, 4, 3]


def test_the_window_moves_on_and_begins_again():
    places = [window((0, 1, 2, 3), step, every=25, stride=1, steps=8) for step in range(101)]
    assert places[0] == places[24] == (0, 1, 2, 3)
    assert places[25] == places[49] == (1, 2, 3, 4)
    assert places[50] == places[74] == (2, 3, 4, 5)
    assert places[75] == places[99] == (3, 4, 5, 6)
    assert places[100] == (0, 1, 2, 3)
    assert sum(a != b for a, b in pairwise(places)) == 4


def test_the_window_ends_at_the_last_step_but_one():
    """With T = 8 the largest is 6, as no step may explore whose noise would stay in the image."""
    places = {window((1, 3), step, every=1, stride=2, steps=8) for step in range(20)}
    assert places == {(1, 3), (3, 5)}
    assert window((1, 3), 3, every=1, stride=1, steps=8) == (4, 6)
    assert window((0, 6), 5, every=1, stride=1, steps=8) == (0, 6)


def test_a_window_that_does_not_move_is_the_branch_steps():
    assert window((0, 2, 6), 999, every=0, stride=3, steps=8) == (0, 2, 6)
