"""What a training step leaves out, and where it explores: contrast, and branch steps that move."""

import math
from dataclasses import replace

import pytest
import torch

from _by_hand import descend, loss_by_hand, scored, z_scores
from _toy import Brightness, ToyTraining, same, toy_config, weights
from pave_core.config.objective import PaveConfig
from pave_core.errors import ConfigError
from pave_core.scoring.mix import Scores
from pave_core.training.step import TrainingStep


def step_of(run):
    return TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)


def contrasting(contrast=2, group_size=6, tail_steps=3, **settings):
    return toy_config(iterations=1, contrast=contrast, group_size=group_size, tail_steps=tail_steps, **settings)


def kept_by(step, rollouts, rewards):
    """The places of the images that stay, for each prompt and group, by rewards (P, F, G)."""
    narrowed, images = step.contrast(rollouts, Scores({"told": rewards.flatten()}))
    P, F, _ = rewards.shape
    assert len(images) == P * F * narrowed[0].branches.shape[1]
    places = []
    for whole, rollout in zip(rollouts, narrowed, strict=True):
        for y, all_y in list(zip(rollout.branches, whole.branches, strict=True))[-F:]:
            places.append([next(i for i, other in enumerate(all_y) if torch.equal(each, other)) for each in y])
    return places


@pytest.mark.parametrize("exploration", ["branches", "trajectories"])
@pytest.mark.parametrize("contrast", [2, 4])
def test_the_best_and_the_worst_of_each_group_stay(exploration, contrast):
    run = ToyTraining(contrasting(contrast, exploration=exploration))
    step = step_of(run)
    rollouts = step.sample()
    rewards = torch.rand(2, 2 if exploration == "branches" else 1, 6, generator=torch.Generator().manual_seed(0))
    expected = []
    for group in rewards.flatten(0, 1).tolist():
        ranked = sorted(range(6), key=lambda i: group[i])
        expected.append(sorted(ranked[: contrast // 2] + ranked[-contrast // 2 :]))
    assert kept_by(step, rollouts, rewards) == expected


def test_an_image_without_a_score_does_not_stay():
    run = ToyTraining(replace(contrasting(), run=replace(contrasting().run, prompts_per_step=1)))
    step = step_of(run)
    nan = math.nan
    rewards = torch.tensor([[[nan, 0.1, 0.9, 0.5, nan, 0.4], [0.3, nan, 0.2, 0.8, 0.1, nan]]])
    assert kept_by(step, step.sample(), rewards) == [[1, 2], [3, 4]]


def test_the_clamp_of_advantages_does_not_blur_the_choice():
    """At its smallest, all advantages are clamped to the same two numbers."""
    config = replace(contrasting(), pave=PaveConfig(advantage_clip=0.1))
    run = ToyTraining(replace(config, run=replace(config.run, prompts_per_step=1)))
    step = step_of(run)
    rewards = torch.tensor([[[0.2, 0.1, 0.0, 1.0, 0.9, 0.8], [0.2, 0.1, 0.0, 0.8, 1.0, 0.9]]])
    assert kept_by(step, step.sample(), rewards) == [[2, 3], [2, 4]]


class Asked(Brightness):
    """Writes down how many images it was shown at once."""

    def __init__(self):
        self.sizes = []

    def __call__(self, images, prompts):
        self.sizes.append(len(images))
        return super().__call__(images, prompts)


@pytest.mark.parametrize("exploration", ["branches", "trajectories", "trajectories, one noise"])
def test_a_contrasting_step_is_a_descent_on_the_images_that_stay(exploration):
    """By hand: all are scored on short tails, the best and worst finished, and compared with each other alone."""
    base = contrasting(4, exploration=exploration)
    plain = {"optimizer": "SGD", "betas": (0.0, 0.999), "weight_decay": 0.0, "max_grad_norm": 1000.0}
    config = replace(base, optim=replace(base.optim, learning_rate=1.0, **plain))
    run, hand = ToyTraining(config, Asked()), ToyTraining(config)
    fresh = weights(run.policy)
    (metrics,) = run.stream()
    step = step_of(hand)
    rollouts = step.sample()
    cheap = scored(hand, rollouts)
    narrowed, _ = step.contrast(rollouts, Scores({"brightness": torch.cat([rewards.flatten() for rewards in cheap])}))
    exact = scored(hand, narrowed)
    advantages = [torch.stack([z_scores(group) for group in rewards[0]]) for rewards in exact]
    loss, _ = loss_by_hand(hand, narrowed, advantages)
    descend(hand, loss)
    found, expected = (
        torch.cat([(w - fresh[name]).flatten() for name, w in weights(each.policy).items()]) for each in (run, hand)
    )
    assert (found - expected).norm() < 1e-3 * expected.norm()
    groups = 2 * (2 if exploration == "branches" else 1)
    (reward,) = run.reward.rewards
    assert reward.sizes == [2, groups * 6, groups * 4]
    assert metrics.reward_mean == pytest.approx(torch.cat([rewards.flatten() for rewards in cheap]).mean().item())


def test_images_that_are_not_finite_once_finished_are_a_skipped_step():
    """The short tail ends well, that on the schedule does not."""
    run = ToyTraining(contrasting())
    decode, calls = run.decoder.decode, []

    def broken(latents):
        calls.append(len(latents))
        return decode(latents) * (math.nan if sum(calls) > 2 + 2 * 2 * 6 else 1.0)

    run.decoder.decode = broken
    before = weights(run.policy)
    (metrics,) = run.stream()
    assert metrics.skipped
    assert same(weights(run.policy), before)


def test_groups_that_were_not_narrowed_are_refused():
    run = ToyTraining(contrasting())
    step = step_of(run)
    rollouts = step.sample()
    advantages = torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="^contrast: the groups have not been narrowed to 2 images"):
        step.accumulate(rollouts, advantages)


def test_advantages_of_several_tails_are_added():
    run = ToyTraining(toy_config(coarser_tails=(2,)))
    step = step_of(run)
    rollouts = step.sample()
    rewards = torch.rand(2, 2, 2, 4, generator=torch.Generator().manual_seed(1))  # (prompts, tails, branch steps, G)
    found = step.advantages(Scores({"told": rewards.flatten()}), rollouts)
    assert found.shape == (2, 2 * 2, 4)
    for p in range(2):
        for f in range(2):
            expected = z_scores(rewards[p, 0, f]) + z_scores(rewards[p, 1, f])
            torch.testing.assert_close(found[p, f], expected)
            torch.testing.assert_close(found[p, 2 + f], expected)


def test_images_of_tails_and_groups_come_in_the_order_of_their_names():
    config = toy_config(coarser_tails=(2,))
    run = ToyTraining(config)
    step = step_of(run)
    rollouts = step.sample()
    images, _ = step.decode(rollouts)
    labels = config.rollout.labels(rollouts[0].branch_steps)
    assert labels == [
        "branch step 0",
        "branch step 2",
        "branch step 0, every 2. step of the tail",
        "branch step 2, every 2. step of the tail",
    ]
    assert step.texts(rollouts) == [rollout.prompt for rollout in rollouts for _ in range(16)]
    groups = images.view(2, len(labels), 4, 4, 4, 3)
    for p, rollout in enumerate(rollouts):
        for place in range(4):
            m, f = divmod(place, 2)
            torch.testing.assert_close(groups[p, place], run.decoder.decode(rollout.finals[m, f]))


def test_the_window_moves_with_the_training_step_and_comes_back():
    """T = 6, so that the last branch step is at most 4: three places, for two steps each."""
    run = ToyTraining(toy_config(window_every=2))
    seen = []
    for run.state.step in range(8):
        seen.append(step_of(run).sample()[0].branch_steps)
    assert seen == [(0, 2)] * 2 + [(1, 3)] * 2 + [(2, 4)] * 2 + [(0, 2)] * 2


@pytest.mark.parametrize("exploration", ["branches", "trajectories, one noise"])
def test_a_window_somewhere_is_those_branch_steps(exploration):
    """A step with the window moved on by two, against one whose settings name these branch steps."""
    moved = ToyTraining(toy_config(iterations=5, window_every=2, window_stride=2, exploration=exploration))
    named = ToyTraining(toy_config(iterations=5, branch_steps=(2, 4), exploration=exploration))
    for run in (moved, named):
        run.state.step = 2
        next(run.stream())
    assert same(weights(moved.policy), weights(named.policy))
