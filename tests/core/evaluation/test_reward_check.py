"""Whether a reward can teach, before anything is trained."""

import copy
import math

import pytest
import torch

from _toy import Brightness, Constant, Negative, ToyTraining, same, toy_config
from pave_core.evaluation.reward_check import check_reward, check_scores
from pave_core.scoring.mix import RewardMix


class Noisy:
    """Gives another number each time."""

    name = "noisy"

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, images, prompts):
        return torch.randn(len(images), generator=self.generator)


class Lamp:
    """1 where the image is bright, else 0: all of a dark group are the same."""

    name = "lamp"

    def __call__(self, images, prompts):
        return (images.mean((1, 2, 3)) > 0.5).float()


class Silent:
    """Scores nothing."""

    name = "silent"
    may_abstain = True

    def __call__(self, images, prompts):
        return torch.full((len(images),), math.nan)


def check(reward, images, groups, size):
    return check_scores(
        RewardMix.of(reward),
        images,
        prompts=[""] * len(images),
        shape=(1, groups, size),
        labels=[f"branch step {k}" for k in range(groups)],
    )


def test_a_reward_that_grades_can_teach():
    run = ToyTraining()
    before = copy.deepcopy(run.state.capture({}).adapter)
    found = check_reward(run.policy, run.decoder, reward=run.reward, conds=run.conds, config=run.config)
    assert found.problem is None
    assert found.verdict.startswith("This reward can tell your images apart")
    assert found.mix.groups == 4  # two prompts, two branch steps
    assert found.rewards["brightness"].noise == 0
    images = found.images.view(4, 4, -1).mean(-1)
    assert found.mix.spread == pytest.approx(images.std(1).mean().item(), rel=1e-4)
    assert same(run.state.capture({}).adapter, before)


def test_a_large_run_is_checked_by_few_images():
    run = ToyTraining(toy_config(branch_steps=(0, 1, 2, 3), group_size=12))
    found = check_reward(run.policy, run.decoder, reward=run.reward, conds=run.conds, config=run.config)
    assert found.labels == ["branch step 0", "branch step 3"]
    assert found.scores.values["brightness"].shape == (2, 2, 6)
    assert found.prompts == ("a cat",) * 12 + ("a dog",) * 12


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (Constant(), "it gives all images of a group the same number, in all 4 groups"),
        (Lamp(), "in 3 of 4 groups: it grades too coarsely"),
        (Noisy(), "is not above its own noise"),
        (Silent(), "it scored none of the images"),
    ],
)
def test_a_reward_that_cannot_teach_is_told_why(reward, reason):
    images = torch.rand(4, 3, 8, 8, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    images[0, 0] += 0.7
    found = check(reward, images.flatten(0, 1), 4, 3)
    assert reason in found.problem
    assert found.verdict.startswith("This reward cannot tell your images apart")
    assert found.verdict in found.text()


def test_rewards_that_agree_or_disagree_are_named():
    images = torch.rand(12, 8, 8, 3, generator=torch.Generator().manual_seed(2))
    images *= torch.rand(12, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    mix = RewardMix((Brightness(), Negative(), Constant()), (1.0, 0.5, 1.0))
    found = check(mix, images, 3, 4)
    assert found.correlations[("brightness", "negative")] == pytest.approx(-1, abs=1e-4)
    assert found.correlations[("brightness", "constant")] == 0
    assert "brightness and negative: correlation -1.00, they pull against each other" in found.text()
    assert "constant: it gives all images of a group the same number" in found.text()
    assert found.problem is None
