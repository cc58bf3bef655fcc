"""What a reward is called with, and what it may answer."""

import math

import pytest
import torch

from _toy import Brightness
from pave_core.errors import ConfigError, TrainingError
from pave_core.scoring.mix import RewardMix
from pave_core.scoring.score import describe, score


def test_only_a_reward_that_may_abstain_may_leave_images_without_a_score():
    class Judge:
        name = "judge"
        may_abstain = True

        def __call__(self, images, prompts):
            return torch.tensor([1.0, float("nan")])

    images = torch.zeros(2, 4, 4, 3)
    assert score(Judge(), images, ["", ""]).isnan().tolist() == [False, True]
    mixed = RewardMix((Judge(),), (1.0,))
    assert mixed.may_abstain
    assert mixed(images, ["", ""]).isnan().tolist() == [False, True]
    Judge.may_abstain = False
    with pytest.raises(TrainingError, match="reward judge: returned nan for 1 of 2 images"):
        score(Judge(), images, ["", ""])


def test_a_reward_that_may_abstain_may_not_give_infinity():
    class Judge:
        name = "judge"
        may_abstain = True

        def __call__(self, images, prompts):
            return torch.tensor([math.nan, math.inf])

    with pytest.raises(TrainingError, match=r"reward judge: returned inf for 1 of 2 images \(first prompt: 'b'\)"):
        score(Judge(), torch.zeros(2, 4, 4, 3), ["a", "b"])


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (torch.zeros(2, 4, 4, 4), 2, "4 channels instead of 3: take the transparency off"),
        (torch.zeros(2, 4, 4, 1), 2, "1 channels instead of 3"),
        (torch.zeros(4, 4, 3), 4, r"a tensor of shape \(4, 4, 3\)"),
        (torch.zeros(0, 4, 4, 3), 0, "at least one"),
        (torch.full((2, 4, 4, 3), 255.0), 2, "values from 255 to 255: .* divide 8-bit values by 255"),
        (torch.full((2, 4, 4, 3), -1.0), 2, "values from -1 to -1: .*; clamp them to that"),
        (torch.tensor([-0.2, 1.3]).repeat(48).view(2, 4, 4, 3), 2, "values from -0.2 to 1.3: .*; clamp them to that"),
        (torch.full((2, 4, 4, 3), float("nan")), 2, "values that are not finite: .*fp16.*--fast.*Sage"),
        (torch.full((2, 4, 4, 3), float("inf")), 2, "values that are not finite"),
        (torch.tensor([0.5, float("nan")]).repeat(48).view(2, 4, 4, 3), 2, "values that are not finite"),
        (torch.zeros(2, 4, 4, 3), 3, "prompts: reward brightness was given 3 for 2 images"),
    ],
)
def test_what_is_no_image_is_refused_before_the_reward_sees_it(images, prompts, message):
    with pytest.raises(ConfigError, match=message):
        score(Brightness(), images, [""] * prompts)


def test_a_list_of_numbers_is_an_answer():
    class Plain:
        name = "plain"

        def __call__(self, images, prompts):
            return [0.25, 1]

    assert score(Plain(), torch.zeros(2, 4, 4, 3), ["", ""]).tolist() == [0.25, 1.0]


def test_a_reward_is_described_by_its_name_and_what_it_says_of_itself():
    class Set(Brightness):
        def describe(self):
            return {"gamma": 2.2}

    assert describe(Brightness()) == {"name": "brightness"}
    assert describe(Set()) == {"name": "brightness", "gamma": 2.2}
