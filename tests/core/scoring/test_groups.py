"""Statistics within groups, against numpy's, image by image."""

import math

import numpy as np
import pytest
import torch

from pave_core.scoring.groups import group_mean, group_std, normalise, zero_spread
from pave_core.seeds import seeded

NAN = math.nan


def test_mean_and_std_are_numpys_over_the_scored_images():
    rewards = torch.randn(2, 3, 6, generator=seeded(0))
    rewards[0, 1, 2] = rewards[1, 0, 0] = rewards[1, 0, 5] = NAN
    for place in np.ndindex(2, 3):
        scored = [value for value in rewards[place].tolist() if not math.isnan(value)]
        assert group_mean(rewards)[place].item() == pytest.approx(np.mean(scored), abs=1e-6)
        assert group_std(rewards)[place].item() == pytest.approx(np.std(scored, ddof=1), rel=1e-5)


def test_a_group_with_fewer_than_two_scores_has_no_spread():
    rewards = torch.tensor([[NAN, NAN, 1.0], [NAN, NAN, NAN], [1.0, NAN, 2.0]])
    assert zero_spread(rewards).tolist() == [True, True, False]
    assert group_std(rewards)[:2].flatten().tolist() == [0.0, 0.0]


def test_normalised_groups_have_mean_zero_and_std_one_or_are_zero():
    rewards = torch.tensor([[1.0, 2.0, 6.0, NAN], [3.0, 3.0, 3.0, 3.0]])
    normalised = normalise(rewards)
    assert normalised[0, :3].mean().item() == pytest.approx(0, abs=1e-6)
    assert normalised[0, :3].std().item() == pytest.approx(1, rel=1e-5)
    assert normalised[0, 3] == 0
    assert normalised[1].tolist() == [0.0] * 4
