"""Rollouts narrowed to some images of each group."""

import pytest
import torch

from _by_hand import walked
from _toy import PROMPTS, ToyTraining, toy_config
from pave_core.rollout.sample import contrasted, sample_rollouts
from pave_core.seeds import seeded

KEPT = torch.tensor([[[0, 3], [1, 2]], [[2, 3], [0, 1]]])  # (prompts, branch steps, c)


def narrowed(kept, **settings):
    """(the run, rollouts of two prompts, the same narrowed, the network's calls meanwhile)."""
    run = ToyTraining()
    config = toy_config(branch_steps=(1, 3), contrast=2, **settings).rollout
    rollouts = sample_rollouts(
        run.policy,
        PROMPTS[:2],
        conds=[run.conds[prompt] for prompt in PROMPTS[:2]],
        config=config,
        generators=[seeded(1, prompt) for prompt in PROMPTS[:2]],
    )
    before = run.policy.calls
    return run, rollouts, contrasted(run.policy, rollouts, kept, config=config), run.policy.calls - before


@pytest.mark.parametrize("settings", [{"tail_steps": 3}, {"tail_solver": "multistep"}, {"tail_steps": 12}])
def test_the_images_that_stay_are_finished_on_the_schedule_s_steps(settings):
    run, rollouts, found, _ = narrowed(KEPT, **settings)
    for p, (whole, rollout) in enumerate(zip(rollouts, found, strict=True)):
        assert (rollout.prompt, rollout.branch_steps, rollout.images) == (whole.prompt, (1, 3), 4)
        assert torch.equal(rollout.starts, whole.starts)
        assert torch.equal(rollout.anchor_final, whole.anchor_final)
        for place, k in enumerate((1, 3)):
            for c, i in enumerate(KEPT[p, place].tolist()):
                assert torch.equal(rollout.branches[place, c], whole.branches[place, i])
                end = walked(run.policy, whole.branches[place, i][None], whole.sigmas[k + 1 :], whole.cond)
                torch.testing.assert_close(rollout.finals[0, place, c], end[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exploration", ["trajectories", "trajectories, one noise"])
def test_of_a_trajectory_all_steps_stay(exploration):
    kept = torch.tensor([[[0, 3]], [[1, 2]]])
    run, rollouts, found, _ = narrowed(kept, exploration=exploration, tail_steps=3)
    for p, (whole, rollout) in enumerate(zip(rollouts, found, strict=True)):
        assert rollout.starts.shape == rollout.branches.shape == (2, 2, 3, 4, 4)
        assert rollout.finals.shape == (1, 1, 2, 3, 4, 4)
        for c, i in enumerate(kept[p, 0].tolist()):
            assert torch.equal(rollout.starts[:, c], whole.starts[:, i])
            assert torch.equal(rollout.branches[:, c], whole.branches[:, i])
            end = walked(run.policy, whole.branches[-1, i][None], whole.sigmas[4:], whole.cond)
            torch.testing.assert_close(rollout.finals[0, 0, c], end[0], rtol=1e-4, atol=1e-5)


def test_what_is_finished_on_the_schedule_already_is_not_finished_again():
    _, rollouts, found, calls = narrowed(KEPT)
    assert calls == 0
    for p, (whole, rollout) in enumerate(zip(rollouts, found, strict=True)):
        for place in range(2):
            assert torch.equal(rollout.finals[0, place], whole.finals[0, place, KEPT[p, place]])


def test_the_tails_of_all_prompts_and_groups_go_in_lock_step():
    """From sigma_2 and from sigma_4 to the end at sigma_6: two calls before they meet, and two together."""
    *_, calls = narrowed(KEPT, tail_steps=3, batch_size=64)
    assert calls == 4
