"""One training step, taken apart: what a graph of step nodes makes of it is what train() makes."""

import pytest
import torch

from _toy import ToyTraining, same, toy_config, weights, without_clock
from pave_core.errors import ConfigError
from pave_core.training.step import TrainingStep


def taken_apart(run):
    """A step of `run` by its parts, as step nodes do it; its record."""
    step = TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)
    rollouts = step.sample()
    images, anchors = step.decode(rollouts)
    step.score_anchors(run.reward, anchors)
    scores = step.score(run.reward, images, step.texts(rollouts))
    step.accumulate(rollouts, step.advantages(scores, rollouts))
    if run.config.optim.step == "accumulated":
        step.update()
    return step.complete()


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_the_parts_in_their_order_are_the_loop(optimizer_step):
    whole, apart = (ToyTraining(toy_config(iterations=3, optimizer_step=optimizer_step)) for _ in range(2))
    records = list(whole.stream())
    assert without_clock([taken_apart(apart) for _ in range(3)]) == without_clock(records)
    assert same(weights(whole.policy), weights(apart.policy))


def test_drawing_changes_nothing_and_gives_the_same_again():
    run = ToyTraining()
    before = weights(run.policy)
    steps = [
        TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state) for _ in range(2)
    ]
    first, second = (step.sample() for step in steps)
    assert [rollout.prompt for rollout in first] == steps[0].prompts
    assert all(torch.equal(a.finals, b.finals) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].finals, first[1].finals)
    assert same(weights(run.policy), before)
    assert run.state.step == 0


def test_each_place_of_each_step_has_noise_of_its_own():
    """The anchor's beginning, where the first branches leave it, is noise alone."""
    run = ToyTraining()
    assert run.config.rollout.branch_steps[0] == 0
    beginnings = []
    for run.state.step in range(3):
        step = TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)
        beginnings += [tuple(rollout.starts[0].flatten().tolist()) for rollout in step.sample()]
    assert len(set(beginnings)) == 3 * 2


def test_images_come_prompt_by_prompt_and_branch_step_by_branch_step():
    run = ToyTraining()
    step = TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)
    rollouts = step.sample()
    images, anchors = step.decode(rollouts)
    assert images.shape == (2 * 2 * 4, 4, 4, 3)
    assert anchors.shape == (2, 4, 4, 3)
    for p, rollout in enumerate(rollouts):
        torch.testing.assert_close(anchors[p], run.decoder.decode(rollout.anchor_final)[0])
        for k in range(2):
            group = images.view(2, 2, 4, 4, 4, 3)[p, k]
            torch.testing.assert_close(group, run.decoder.decode(rollout.finals[0, k]))


def test_scores_that_are_all_the_same_are_an_error_in_the_first_step_only():
    run = ToyTraining(toy_config(iterations=3))
    next(run.stream())
    scores_of = run.reward.score

    class Flat:
        def score(self, images, prompts, **asked):
            scores = scores_of(images, prompts)
            scores.values["brightness"].fill_(0.5)
            return scores

    run.reward = Flat()
    metrics = taken_apart(run)
    assert (metrics.zero_spread_groups, metrics.loss, metrics.grad_norm) == (4, 0.0, 0.0)
    again = ToyTraining()
    again.reward = Flat()
    with pytest.raises(ConfigError, match=r"^reward: brightness = 0\.5 for all 16 images"):
        taken_apart(again)


def test_the_record_counts_what_was_drawn():
    run = ToyTraining()
    metrics = taken_apart(run)
    assert (metrics.step, metrics.groups, metrics.unscored, metrics.skipped) == (1, 4, 0, False)
    assert metrics.segments.keys() == {1, 2, 3}
    assert metrics.seconds.keys() == {"rollout", "decode", "reward", "update", "optimizer"}
    assert run.state.updates == 1


@pytest.mark.parametrize("exploration", ["branches", "trajectories"])
def test_per_step_updates_once_for_each_prompt_and_branch_step(exploration):
    run = ToyTraining(toy_config(optimizer_step="per_step", exploration=exploration))
    taken_apart(run)
    assert run.state.updates == 2 * 2
