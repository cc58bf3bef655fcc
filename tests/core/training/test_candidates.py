"""AdaGRPO in training: the prompts that are chosen, the statistics that are kept, and the global advantage."""

import math
from dataclasses import replace

import pytest
import torch

from _by_hand import walked, z_scores
from _toy import Brightness, ToyTraining, same, toy_config
from pave_core.config.objective import PaveConfig
from pave_core.errors import ConfigError, TrainingError
from pave_core.rollout.curriculum import RunningStats, candidates_of_step
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.scoring.mix import Scores
from pave_core.seeds import seeded
from pave_core.training.step import TrainingStep

PROMPTS = ("a cat", "a dog", "a bird", "a fish", "a cow", "a fox")


def adagrpo(iterations=3, candidates=4, **pave):
    config = toy_config(iterations=iterations, candidates=candidates)
    return replace(config, pave=PaveConfig(**pave))


def training(config, reward=None):
    """A toy run of more prompts."""
    run = ToyTraining(config, reward)
    run.conds = {prompt: run.policy.encode(prompt) for prompt in PROMPTS}
    return run


def step_of(run):
    return TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)


def choose(step, scores):
    step.choose(Scores({"told": torch.tensor(scores)}))
    return step.prompts


def test_the_candidates_images_are_those_of_plain_generation():
    run = training(adagrpo())
    step = step_of(run)
    images = step.sample_candidates()
    assert step.candidates == candidates_of_step(PROMPTS, run.config, 0)
    assert len(set(step.candidates)) == 4
    for i, prompt in enumerate(step.candidates):
        start = torch.randn(1, 3, 4, 4, generator=seeded(run.config.run.seed, "candidate", 0, i))
        end = walked(run.policy, start, run.policy.sigmas(6), run.conds[prompt])
        torch.testing.assert_close(images[i], run.decoder.decode(end)[0])


def test_the_prompts_nearest_the_running_mean_are_trained_on():
    run = training(adagrpo())
    step = step_of(run)
    first = list(step.candidates)
    assert choose(step, [0.0, 1.0, 0.4, 0.6]) == [first[2], first[3]]  # the mean is 0.5; of two as near, the first
    step.complete()
    assert run.state.running.mean == pytest.approx(0.5)
    assert run.state.running.var == pytest.approx((0.25 + 0.25 + 0.01 + 0.01) / 4)
    step = step_of(run)
    second = list(step.candidates)
    # The new mean is 0.8 * 0.5 + 0.2 * 2 = 0.8: neither the old one, nor that of these scores.
    assert choose(step, [0.5, 0.9, 2.0, 4.6]) == [second[1], second[0]]
    step.complete()
    assert run.state.running.mean == pytest.approx(0.8)
    var = (1.5**2 + 1.1**2 + 0 + 2.6**2) / 4
    assert run.state.running.var == pytest.approx(0.8 * 0.13 + 0.2 * var)


def test_train_chooses_by_the_reward_and_trains_on_what_it_chose():
    run = training(adagrpo())
    before = run.state.capture({})
    for metrics in run.stream():
        again = training(adagrpo())
        again.state.restore(before)
        step = step_of(again)
        scores = step.sample_candidates().mean((1, 2, 3))
        running = again.state.running
        mean = scores.mean().item() if running is None else 0.8 * running.mean + 0.2 * scores.mean().item()
        distances = [abs(score - mean) for score in scores.tolist()]
        nearest = sorted(range(4), key=lambda i: distances[i])[:2]
        assert metrics.prompts == tuple(step.candidates[i] for i in nearest)
        assert run.state.running.mean == pytest.approx(mean)
        before = run.state.capture({})


def test_prompts_that_have_not_been_chosen_cannot_be_sampled():
    with pytest.raises(ConfigError, match="^candidates: the prompts of this step have not been chosen"):
        step_of(training(adagrpo())).sample()


def test_a_candidate_without_a_score_is_not_chosen_and_none_at_all_is_an_error():
    run = training(adagrpo())
    step = step_of(run)
    first = list(step.candidates)
    assert choose(step, [math.nan, 0.0, math.nan, 1.0]) == [first[1], first[3]]
    with pytest.raises(TrainingError, match="^candidates: the reward scored none of 4 images"):
        choose(step, [math.nan] * 4)


class Fails(Brightness):
    """Breaks in the second step, after its candidates and its anchors."""

    calls = 0

    def __call__(self, images, prompts):
        self.calls += 1
        if self.calls == 6:
            raise OSError("gone")
        return super().__call__(images, prompts)


def test_a_step_that_fails_leaves_the_statistics():
    run = training(adagrpo(), Fails())
    stream = run.stream()
    next(stream)
    before = run.state.running
    with pytest.raises(OSError, match="gone"):
        next(stream)
    assert run.state.running is before


def test_images_that_are_not_finite_leave_the_statistics():
    run = training(adagrpo())
    stream = run.stream()
    next(stream)
    before = run.state.running
    velocity = run.policy.velocity
    run.policy.velocity = lambda *inputs: velocity(*inputs) * math.nan
    assert next(stream).skipped
    assert run.state.running is before


def test_the_statistics_and_the_choices_survive_a_resume(tmp_path):
    file, config = tmp_path / "checkpoint.safetensors", adagrpo(iterations=4)
    whole, first, second = (training(config) for _ in range(3))
    records = list(whole.stream())
    stream = first.stream()
    next(stream), next(stream)
    save_checkpoint(file, first.state.capture({}))
    second.state.restore(load_checkpoint(file))
    assert second.state.running == first.state.running
    assert [m.prompts for m in second.stream()] == [m.prompts for m in records[2:]]
    assert second.state.running == whole.state.running
    assert same(second.state.capture({}).adapter, whole.state.capture({}).adapter)


def test_the_global_advantage_is_added_to_that_within_the_group():
    """Against the statistics as they are after the choice, not before."""
    rewards = torch.tensor([[[0.4, 0.7, 0.1, 0.9], [0.2, 0.3, 0.4, 0.1]], [[0.6, 0.9, 0.8, 0.7], [0.5, 0.5, 0.5, 0.5]]])
    found = {}
    for on in (False, True):
        run = training(adagrpo(global_advantage=on))
        run.state.running = RunningStats(0.4, 0.2)
        step = step_of(run)
        choose(step, [0.0, 1.0, 0.4, 0.6])
        rollouts = step.sample()
        found[on] = step.advantages(Scores({"told": rewards.flatten()}), rollouts)
    mean, std = 0.8 * 0.4 + 0.2 * 0.5, math.sqrt(0.8 * 0.2 + 0.2 * 0.13)
    expected = torch.zeros(2, 2, 4)
    for p in range(2):
        for k in range(2):
            if p == k == 1:
                continue  # no spread: nothing to learn
            z = [(r - mean) / std for r in rewards[p, k].tolist()]
            above, below = sum(a for a in z if a > 0), -sum(a for a in z if a < 0)
            if above < 1e-6 or below < 1e-6:
                shares = [a - sum(z) / 4 for a in z]
            else:
                shares = [a / above if a > 0 else a / below for a in z]
            torch.testing.assert_close(found[False][p, k], z_scores(rewards[p, k]))
            expected[p, k] = z_scores(rewards[p, k]) + torch.tensor(shares)
    torch.testing.assert_close(found[True], expected)


def test_the_global_advantage_trains_another_adapter():
    runs = [training(adagrpo(global_advantage=on)) for on in (False, True)]
    records = [list(run.stream()) for run in runs]
    assert records[0][0].prompts == records[1][0].prompts
    assert not same(*(run.state.capture({}).adapter for run in runs))


def test_without_candidates_nothing_is_kept():
    run = training(toy_config(iterations=1))
    list(run.stream())
    assert run.state.running is None
