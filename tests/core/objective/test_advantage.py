"""Advantages within groups, against scipy's z-scores."""

import pytest
import torch
from scipy import stats

from _toy import Brightness
from pave_core.objective.advantage import advantages_of, compute_advantages, global_advantages
from pave_core.rollout.curriculum import RunningStats
from pave_core.scoring.groups import zero_spread
from pave_core.scoring.mix import RewardMix, Scores
from pave_core.seeds import seeded


def test_advantages_are_z_scores_clamped():
    rewards = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    rewards[1, 3] = 50
    expected = torch.from_numpy(stats.zscore(rewards.numpy(), axis=1, ddof=1)).clamp(-2.5, 2.5)
    torch.testing.assert_close(compute_advantages(rewards, 2.5), expected, atol=1e-5, rtol=1e-5)


def test_a_group_without_spread_has_no_advantage():
    rewards = torch.tensor([[0.1, 0.1, 0.1], [0.0, 0.5, 1.0]])
    assert zero_spread(rewards).tolist() == [True, False]
    assert compute_advantages(rewards, 5)[0].tolist() == [0.0, 0.0, 0.0]


def test_images_without_a_score_are_left_out_of_their_group():
    nan = float("nan")
    rewards = torch.tensor([[1.0, nan, 3.0, 5.0], [nan, nan, 2.0, nan], [2.0, 2.0, nan, 2.0]])
    advantages = compute_advantages(rewards, 5)
    torch.testing.assert_close(advantages[0, [0, 2, 3]], compute_advantages(torch.tensor([[1.0, 3.0, 5.0]]), 5)[0])
    assert advantages[0, 1] == 0
    assert advantages[1:].abs().max() == 0
    assert zero_spread(rewards).tolist() == [False, True, True]


def test_a_mix_within_the_group_does_not_depend_on_scales():
    values = {"brightness": torch.rand(2, 4, generator=seeded(0)), "redness": torch.rand(2, 4, generator=seeded(1))}
    mix = Scores(values, (1.0, 0.5))
    scaled = Scores(values | {"redness": values["redness"] * 1000 + 3}, (1.0, 0.5))
    torch.testing.assert_close(advantages_of(mix, 5), advantages_of(scaled, 5), atol=1e-4, rtol=1e-4)
    raw = Scores(values, (1.0, 0.5), "raw")
    expected = compute_advantages(values["brightness"] + 0.5 * values["redness"], 5)
    torch.testing.assert_close(advantages_of(raw, 5), expected)


def test_a_mix_of_one_is_that_reward():
    images = torch.rand(12, 2, 2, 3, generator=seeded(0))
    scores = RewardMix.of(Brightness()).score(images, [""] * 12)
    alone = compute_advantages(Brightness()(images, [""] * 12).view(2, 6), 5)
    assert torch.equal(advantages_of(scores.view(2, 6), 5), alone)


@pytest.mark.parametrize("normalise", ["within group", "raw"])
def test_the_advantages_of_a_mix_are_clamped_too(normalise):
    values = {"a": torch.tensor([[0.0] * 30 + [9.0]]), "b": torch.tensor([[0.0] * 30 + [1.0]])}
    advantages = advantages_of(Scores(values, (1.0, 1.0), normalise), 2.0)
    assert advantages.max() == 2.0
    assert advantages.min() > -2.0


def test_the_global_part_shares_out_one_above_and_one_below_the_running_mean():
    """By hand, for z = 1, 3, -2, 0 and z = 4, -1, -1, -3; test_reference.py has the numbers of AdaGRPO's own code."""
    rewards = torch.tensor([[3.0, 7.0, -3.0, 1.0], [9.0, -1.0, -1.0, -5.0]])
    found = global_advantages(rewards, RunningStats(mean=1.0, var=4.0), 5)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, -1.0, 0.0], [1.0, -0.2, -0.2, -0.6]]))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_group_on_one_side_of_the_running_mean_is_only_centred(sign):
    rewards = sign * torch.tensor([[1.0, 2.0, 6.0]])
    found = global_advantages(rewards, RunningStats(mean=0.0, var=0.25), 5)
    torch.testing.assert_close(found, sign * torch.tensor([[-4.0, -2.0, 5.0]]))  # the last is 6, clamped


def test_the_global_part_leaves_out_images_without_a_score_and_groups_without_spread():
    nan = float("nan")
    stats = RunningStats(mean=1.0, var=4.0)
    rewards = torch.tensor([[3.0, nan, 7.0, -3.0], [0.1, 0.1, 0.1, 0.1], [nan, 2.0, nan, nan]])
    found = global_advantages(rewards, stats, 5)
    torch.testing.assert_close(found[0], torch.tensor([0.25, 0.0, 0.75, -1.0]))
    assert found[1:].abs().max() == 0
    # The mean of seven equal z rounds to another number.
    assert global_advantages(torch.full((1, 7), 0.3), stats, 5).abs().max() == 0
