"""Several rewards with weights."""

import math

import pytest
import torch

from _toy import Brightness, Redness
from pave_core.errors import ConfigError
from pave_core.rewards.colour import ColourReward
from pave_core.scoring.mix import RewardMix, Scores, require_spread
from pave_core.seeds import seeded


def test_a_mix_is_a_reward():
    """For a judge, and within another mix; two rewards of one kind with other settings are told apart."""
    images = torch.rand(5, 2, 2, 3, generator=seeded(0))
    red, blue = ColourReward(1, 0, 0), ColourReward(0, 0, 1)
    inner = RewardMix((red, blue), (1.0, -2.0))
    scores = inner.score(images, [""] * 5)
    assert list(scores.values) == ["colour", "colour 2"]
    torch.testing.assert_close(inner(images, [""] * 5), red(images, []) - 2 * blue(images, []))
    outer = RewardMix((inner, Brightness()), (0.5, 1.0))
    expected = 0.5 * scores.total() + Brightness()(images, [""] * 5)
    torch.testing.assert_close(outer.score(images, [""] * 5).total(), expected)
    assert outer.name == "colour + colour 2 + brightness"


def test_a_mix_of_a_mix_is_itself():
    mix = RewardMix((Brightness(), Redness()), (1.0, 0.5))
    assert RewardMix.of(mix) is mix
    assert RewardMix.of(Brightness()).weights == (1.0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColourReward(2, 0, 0), "red: 2 is outside"),
        (lambda: RewardMix((), ()), "weights: 0 for 0 rewards"),
        (lambda: RewardMix((Brightness(),), (1.0, 2.0)), "weights: 2 for 1 rewards"),
        (lambda: RewardMix((Brightness(),), (1.0,), "median"), "normalise: 'median' is not known"),
        (
            lambda: RewardMix((ColourReward(1, 0, 0), ColourReward(1, 0, 0)), (1, 1)),
            "reward: 'colour' is in the mix 2 times",
        ),
        (lambda: RewardMix((ColourReward(1, 0, 0),), (0.0,)), "weights: all are 0"),
    ],
)
def test_a_bad_mix_names_the_field_and_the_value(make, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


def test_a_weight_of_zero_leaves_a_reward_out_of_the_total_even_where_it_has_no_score():
    scores = Scores({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([math.nan, 5.0])}, (2.0, 0.0))
    assert scores.total().tolist() == [2.0, 4.0]
    assert Scores(scores.values, (2.0, 1.0)).total().isnan().tolist() == [True, False]


def test_a_view_keeps_order_weights_and_normalisation():
    scores = Scores({"a": torch.arange(12.0), "b": -torch.arange(12.0)}, (1.0, 0.5), "raw").view(2, 2, 3)
    assert scores.values["a"][1, 0].tolist() == [6.0, 7.0, 8.0]
    assert (scores.weights, scores.normalise) == ((1.0, 0.5), "raw")


def test_scores_that_are_all_one_number_are_refused_only_if_every_reward_s_are():
    flat, graded = torch.full((4,), 0.5), torch.tensor([0.0, 0.0, 0.0, 1.0])
    require_spread({"flat": flat, "graded": graded})
    require_spread({"alone": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"^reward: flat = 0\.5, other = 1 for all 4 images"):
        require_spread({"flat": flat, "other": torch.ones(4)})


def test_a_mix_describes_its_parts():
    mix = RewardMix((Brightness(), ColourReward(1, 0, 0)), (1.0, 0.5), "raw")
    described = mix.describe()
    assert (described["weights"], described["normalise"]) == ([1.0, 0.5], "raw")
    assert [part["name"] for part in described["rewards"]] == ["brightness", "colour"]
    assert described["rewards"][1]["red"] == 1
