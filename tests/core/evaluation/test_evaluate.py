"""Evaluations on fixed prompts and seeds."""

import math

import pytest
import torch

from _toy import SEEDS, Brightness, Negative, Redness, Shy, ToyTraining
from pave_core.errors import TrainingError
from pave_core.evaluation.evaluate import evaluate, shown_prompts
from pave_core.evaluation.looks import MEASURED
from pave_core.images import eight_bit
from pave_core.pictures.sheets import before_after_grid
from pave_core.scoring.mix import RewardMix


def evaluated(run, seeds=SEEDS, **rewards):
    return evaluate(
        run.policy,
        run.decoder,
        **{"reward": run.reward} | rewards,
        conds=run.conds,
        seeds=seeds,
        config=run.config.rollout,
    )


def test_an_image_is_the_ode_from_its_seed_s_noise():
    """Written out for one image: the noise is that of torch.manual_seed, as in the host's sampler."""
    run = ToyTraining()
    found = evaluated(run)
    assert found.prompts == tuple(prompt for prompt in run.conds for _ in SEEDS)
    assert found.seeds == SEEDS * 3
    place = 1 * len(SEEDS) + 2  # the second prompt, the third seed
    sigmas = run.policy.sigmas(6)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * sigmas[0]
    with torch.no_grad():
        for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
            x = x + (sigma_next - sigma) * run.policy.velocity(x, torch.tensor([sigma]), [run.conds["a dog"]])
    assert torch.equal(found.image(place), torch.from_numpy(eight_bit(run.decoder.decode(x)[0])))
    torch.testing.assert_close(found.total[place], run.decoder.decode(x).mean())


def test_rewards_are_told_apart_from_what_watches_them():
    run = ToyTraining(reward=RewardMix((Brightness(), Redness()), (1.0, 0.5)))
    found = evaluated(run, judge=Redness(), held_out=Negative())
    assert found.scores.keys() == {"brightness", "redness"}
    torch.testing.assert_close(found.total, found.scores["brightness"] + 0.5 * found.scores["redness"])
    assert torch.equal(found.judge, found.scores["redness"])
    assert torch.equal(found.held_out, -found.scores["brightness"])


def test_a_judge_that_is_the_guard_s_as_well_is_asked_once():
    class Counted(Negative):
        calls = 0

        def __call__(self, images, prompts):
            self.calls += 1
            return super().__call__(images, prompts)

    judge = Counted()
    found = evaluated(ToyTraining(), judge=judge, held_out=judge)
    assert judge.calls == 1
    assert found.held_out is found.judge


def test_its_record_holds_means_of_what_was_scored():
    record = evaluated(ToyTraining(reward=Shy()), judge=Shy()).to_dict()
    again = evaluated(ToyTraining(reward=Brightness()))
    scored = [value for i, value in enumerate(again.total.tolist()) if i % 3]
    assert record["reward"] == record["rewards"]["shy"] == record["judge"]
    assert record["reward"] == pytest.approx(sum(scored) / len(scored))
    assert record["held_out"] is None


def test_dropping_the_pictures_keeps_the_numbers():
    found = evaluated(ToyTraining())
    bare = found.without_images()
    assert len(bare.images) == 0
    assert bare.to_dict() == found.to_dict()
    assert len(found.images) == 12


def test_images_that_are_not_finite_end_the_run():
    run = ToyTraining()
    velocity = run.policy.velocity
    run.policy.velocity = lambda x, sigma, conds: velocity(x, sigma, conds) * math.nan
    with pytest.raises(TrainingError, match="^images: the model or its VAE gives values that are not finite"):
        evaluated(run)


class Sizes(Brightness):
    """Notes how many images each call brings."""

    def __init__(self):
        self.sizes = []

    def __call__(self, images, prompts):
        self.sizes.append(len(images))
        return super().__call__(images, prompts)


def test_many_images_are_scored_in_portions_and_few_of_them_are_kept(monkeypatch):
    """20 prompts x 4 seeds: the numbers of one call for all, the pictures of six prompts, and the grid of all."""
    prompts = [f"prompt {i}" for i in range(20)]
    run = ToyTraining()
    run.conds = {prompt: run.policy.encode(prompt) for prompt in prompts}
    reward, told = Sizes(), []
    found = evaluated(run, reward=RewardMix.of(reward), progress=lambda *each: told.append(each))
    assert reward.sizes == [64, 16]
    assert told == [("measuring", 4 * i, 80) for i in range(21)]
    assert found.kept is not None
    assert {found.prompts[i] for i in found.kept} == set(shown_prompts(prompts))
    assert len(found.images) == 6 * len(SEEDS)
    assert found.images.dtype == torch.uint8

    monkeypatch.setattr("pave_core.evaluation.evaluate.PORTION", 1000)
    monkeypatch.setattr("pave_core.evaluation.evaluate.shown_prompts", lambda prompts: list(prompts))
    whole = evaluated(run, reward=RewardMix.of(Brightness()))
    assert len(whole.images) == 80
    assert torch.equal(found.total, whole.total)
    assert all(torch.equal(found.looks.statistics[name], whole.looks.statistics[name]) for name in MEASURED)
    assert all(torch.equal(found.image(i), whole.image(i)) for i in found.kept)
    assert torch.equal(before_after_grid(found, found), before_after_grid(whole, whole))
