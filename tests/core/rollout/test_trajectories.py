"""Rollouts in trajectories, against a loop over images and steps."""

import pytest
import torch

from _by_hand import noisy, velocity, walked
from _toy import ToyTraining, toy_config
from pave_core.rollout.sample import sample_rollouts
from pave_core.seeds import seeded

BRANCH_STEPS = (1, 3, 4)


def sampled(run, exploration, **settings):
    config = toy_config(**{"branch_steps": BRANCH_STEPS} | settings, exploration=exploration).rollout
    (rollout,) = sample_rollouts(
        run.policy, ["a dog"], conds=[run.conds["a dog"]], config=config, generators=[seeded(5)]
    )
    return rollout


def drawn(exploration, K=3, G=4):
    """(the noise of the anchor (1, *S), of each image's beginning (G, *S), of the steps (K, G, *S))."""
    generator = seeded(5)
    anchor, steps = torch.randn(1, 3, 4, 4, generator=generator), torch.randn(K, G, 3, 4, 4, generator=generator)
    own = torch.randn(G, 3, 4, 4, generator=generator)
    return anchor, own if exploration == "trajectories" else anchor.expand(G, 3, 4, 4), steps


@pytest.mark.parametrize("exploration", ["trajectories", "trajectories, one noise"])
def test_each_image_is_its_own_walk_with_noise_at_every_branch_step(exploration):
    run = ToyTraining()
    rollout = sampled(run, exploration)
    sigmas, cond = rollout.sigmas, rollout.cond
    anchor, starts, noise = drawn(exploration)
    assert rollout.starts.shape == rollout.branches.shape == (3, 4, 3, 4, 4)
    assert rollout.finals.shape == (1, 1, 4, 3, 4, 4)
    assert rollout.images == 4
    torch.testing.assert_close(rollout.anchor_final, walked(run.policy, anchor, sigmas, cond))
    for i in range(4):
        x, place = starts[i : i + 1], 0
        for k in range(6):
            if k in BRANCH_STEPS:
                torch.testing.assert_close(rollout.starts[place, i], x[0], rtol=1e-4, atol=1e-5)
                x = noisy(run.policy, x, noise[place, i], k, sigmas=sigmas, eta=0.8, cond=cond)
                torch.testing.assert_close(rollout.branches[place, i], x[0], rtol=1e-4, atol=1e-5)
                place += 1
            else:
                x = x + (sigmas[k + 1] - sigmas[k]) * velocity(run.policy, x, sigmas[k], cond)
        torch.testing.assert_close(rollout.finals[0, 0, i], x[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [0, 2])
def test_with_one_noise_images_leave_the_anchor_at_the_first_branch_step(first):
    run = ToyTraining()
    rollout = sampled(run, "trajectories, one noise", branch_steps=(first, first + 2))
    anchor, _, _ = drawn("trajectories, one noise", K=2)
    x = walked(run.policy, anchor, rollout.sigmas[: first + 1], rollout.cond)
    torch.testing.assert_close(rollout.starts[0], x.expand(4, 3, 4, 4))
    assert rollout.starts[1].std(0).min() > 0


def test_with_noises_of_their_own_images_differ_from_the_beginning():
    rollout = sampled(ToyTraining(), "trajectories", branch_steps=(0,))
    assert rollout.starts[0].std(0).min() > 0


def test_a_trajectory_of_one_branch_step_with_one_noise_is_a_branch():
    branch, trajectory = (
        sampled(ToyTraining(), exploration, branch_steps=(2,))
        for exploration in ("branches", "trajectories, one noise")
    )
    torch.testing.assert_close(trajectory.branches, branch.branches)
    torch.testing.assert_close(trajectory.finals, branch.finals)
    torch.testing.assert_close(trajectory.starts, branch.starts)


def test_tails_begin_after_the_last_branch_step():
    run = ToyTraining()
    rollout = sampled(run, "trajectories", branch_steps=(0, 1), tail_steps=3, coarser_tails=(2,))
    sigmas = rollout.sigmas
    for m, grid in enumerate((sigmas[2::2], (sigmas[2], sigmas[6]))):
        end = walked(run.policy, rollout.branches[-1, 1:2], grid, rollout.cond)
        torch.testing.assert_close(rollout.finals[m, 0, 1:2], end, rtol=1e-4, atol=1e-5)
