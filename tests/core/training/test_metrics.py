"""The record of a step."""

import json

import pytest
import torch

from _toy import ToyTraining, toy_config
from pave_core.images import eight_bit
from pave_core.training.step import TrainingStep


def test_a_record_is_plain_json_without_the_pictures():
    run = ToyTraining()
    metrics = next(run.stream())
    record = metrics.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record.keys().isdisjoint({"preview", "group"})
    assert record["segments"]["2"] == {
        "log_prob": metrics.segments[2].log_prob,
        "std": metrics.segments[2].std,
        "push": metrics.segments[2].push,
        "kl": 0.0,
        "limited": 0.0,
    }
    assert record["rewards"]["brightness"] == [metrics.reward_mean, metrics.reward_std]


def test_the_preview_is_the_first_prompt_s_anchor_without_noise():
    run, again = ToyTraining(), ToyTraining()
    metrics = next(run.stream())
    step = TrainingStep(again.policy, again.decoder, conds=again.conds, config=again.config, state=again.state)
    torch.testing.assert_close(metrics.preview, again.decoder.decode(step.sample()[0].anchor_final)[0])


@pytest.mark.parametrize("rollout", [{}, {"coarser_tails": (2,)}, {"exploration": "trajectories"}, {"contrast": 2}])
def test_the_group_is_the_first_one_with_its_scores_and_advantages(rollout):
    rollout = {"group_size": 4} | rollout
    run, again = ToyTraining(toy_config(**rollout)), ToyTraining(toy_config(**rollout))
    group = next(run.stream()).group
    step = TrainingStep(again.policy, again.decoder, conds=again.conds, config=again.config, state=again.state)
    rollouts = step.sample()
    images, _ = step.decode(rollouts)
    scores = step.score(again.reward, images, step.texts(rollouts))
    if rollout.get("contrast"):
        rollouts, images = step.contrast(rollouts, scores)
        scores = step.score(again.reward, images, step.texts(rollouts))
    count = rollout.get("contrast", 4)
    assert group.prompt == rollouts[0].prompt
    assert group.images.dtype == torch.uint8
    assert torch.equal(group.images, torch.from_numpy(eight_bit(images[:count])))
    assert group.scores == {name: tuple(values[:count].tolist()) for name, values in scores.values.items()}
    assert group.advantages == tuple(step.advantages(scores, rollouts)[0, 0].tolist())
    assert len(set(group.advantages)) > 1


def test_a_step_that_is_not_finite_has_no_group():
    run = ToyTraining()
    run.decoder.decode = lambda latents: torch.full((len(latents), 4, 4, 3), torch.nan)
    assert next(run.stream()).group is None


def test_a_group_never_has_the_images_of_other_rollouts():
    """In a graph, two rollouts may be decoded before the advantages of the first are known."""
    run = ToyTraining(toy_config(group_size=4))
    step = TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)
    first, second = step.sample(), step.sample()
    images = [step.decode(rollouts)[0] for rollouts in (first, second)]
    scores = [step.score(run.reward, images[i], step.texts(each)) for i, each in enumerate((first, second))]
    step.advantages(scores[0], first)
    assert step._group is None
    step.advantages(scores[1], second)
    assert torch.equal(step._group.images, torch.from_numpy(eight_bit(images[1][:4])))
