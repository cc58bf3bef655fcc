"""Runs whose reward is a person, from begin() to the summary: nobody is asked in measurements."""

import json
import math

import pytest
import torch

from _person import Asker
from _toy import PROMPTS, Brightness, Hears, Redness, drive, same, toy_config
from pave_core.errors import ConfigError
from pave_core.evaluation.gain import paired_gain
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.person.choice import Choice
from pave_core.person.clicks import Clicks
from pave_core.person.learner import Learner
from pave_core.person.reward import PersonReward
from pave_core.person.taste import ClipFeatures
from pave_core.rollout.prompts import PromptSet
from pave_core.runs.settings import RunSettings, Task
from pave_core.scoring.mix import RewardMix

HELD_OUT = PromptSet(PROMPTS[:2], PROMPTS[2:])


@pytest.fixture(scope="module")
def eyes(root):
    tiny = root / "assets" / "tiny"
    return ClipFeatures(tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json")


def files(run):
    return {name: json.loads((run.folder.path / f"{name}.json").read_text()) for name in ("summary", "evaluations")}


def test_a_run_of_a_person_alone_goes_from_begin_to_finish(begin):
    asker, hears = Asker(), Hears()
    run = begin(
        reward=PersonReward(asker),
        prompts=HELD_OUT,
        check_reward=True,
        evaluate_every=2,
        judge=Redness(),
        reporters=[hears],
    )
    made = drive(run)
    outcome = run.finish()
    assert len(asker.calls) == 4
    assert all(metrics.grad_norm > 0 for metrics in made)
    assert ("message", "the reward is a person, who is asked in training alone: it is not checked") in hears.said
    found = files(run)
    assert [found["summary"][name] for name in ("reward_before", "reward_after", "reward_se")] == [None, None, 0.0]
    assert found["summary"]["judge_after"] is not None
    assert [(each["reward"], each["gain"]) for each in found["evaluations"]] == [(None, None)] * 3
    text = "\n".join([outcome.summary.text(), outcome.summary.line()])
    assert "not scored. A person is asked about training images alone, and no taste was learnt yet" in text
    assert "judge, never trained on: " in text
    assert "nan" not in text
    assert "gain" not in outcome.summary.line()
    assert ("numbers", 2, "held_out/reward", "held_out/gain", "held_out/gain_se") in hears.said
    assert outcome.grid is not None
    assert outcome.lora.preview is None


def test_nothing_is_said_in_the_first_step_and_training_goes_on(begin):
    silent = iter(range(100))
    asker = Asker(lambda question: Choice("none") if next(silent) < 2 else Choice("ranked", ((0,), (1, 2, 3))))
    run = begin(reward=PersonReward(asker, at_once=4))
    made = drive(run)
    assert made[0].zero_spread_groups == 2
    assert made[1].grad_norm > 0
    assert run.finish().summary.unscored_images == made[0].unscored == 8


def test_a_gain_compares_what_one_taste_scores(begin, eyes):
    """Both evaluations are scored by the taste of now, oracle: the images of the grid, scored anew."""
    reward = PersonReward(Asker(), learner=Learner(eyes))
    run = begin(toy_config(iterations=6), reward=reward, prompts=HELD_OUT, evaluate_every=3)
    assert run.measurements.before.total.isnan().all()
    drive(run, until=3)
    early = reward.learner.taste
    assert early is not None
    first = run.measurements.before.total
    assert first.isfinite().all()
    drive(run)
    outcome = run.finish()
    taste = reward.learner.taste
    assert not torch.equal(taste.weight, early.weight)
    for evaluation in run.measurements.evaluations.values():
        assert evaluation.features["person"].shape == (4, 64)
        if len(evaluation.images):
            anew = taste.scores(eyes(evaluation.images))
            torch.testing.assert_close(evaluation.total, anew, atol=1e-3, rtol=1e-3)
    evaluations = run.measurements.evaluations
    assert not torch.equal(run.measurements.before.total, first)
    gain, error = paired_gain(evaluations[0].total, evaluations[6].total)
    last = files(run)["evaluations"][-1]
    assert (last["gain"], last["gain_se"]) == pytest.approx((gain, error))
    assert outcome.summary.comparison.total.after - outcome.summary.comparison.total.before == pytest.approx(
        gain, abs=1e-5
    )
    assert f"gain {gain:+.4f}" in outcome.summary.line()


def test_a_person_beside_another_reward(begin):
    asker = Asker()
    mix = RewardMix((PersonReward(asker), Brightness()), (1.0, 0.5))
    run = begin(reward=mix, prompts=HELD_OUT, check_reward=True)
    drive(run)
    text = run.finish().summary.text()
    assert "brightness alone" in text
    assert "person alone" not in text
    assert "nan" not in text


class Remembers:
    """An Asker whose answers are kept in a folder."""

    def __init__(self, folder, answer):
        self.clicks, self._answer, self.asked = Clicks(folder), answer, []

    def ask(self, questions):
        for question in questions:
            if self.clicks.of(question.key) is None:
                self.asked.append(question.key)
                self.clicks.add(question, self._answer(question))
        return [self.clicks.of(question.key) for question in questions]

    def answered(self):
        return self.clicks.all()


def darkest(question):
    place = int(question.images.float().sum((1, 2, 3)).argmin())
    return Choice("ranked", ((place,), tuple(i for i in range(len(question.images)) if i != place)))


@pytest.mark.parametrize("learns", [False, True])
def test_a_run_that_is_resumed_finds_its_answers(begin, eyes, tmp_path, learns):
    """Oracle: a run that nothing interrupted. After a crash in step 4 its first half is not asked again."""

    def person(folder, answer=darkest):
        asker = Remembers(tmp_path / folder, answer)
        return asker, PersonReward(asker, learner=Learner(eyes) if learns else None)

    config = toy_config(iterations=6, checkpoint_every=2)
    whole, reward = person("whole")
    run = begin(config, reward=reward, prompts=HELD_OUT)
    drive(run)
    expected, summary = run.finish(), files(run)["summary"]
    assert len(whole.asked) == whole.clicks.count == 12

    def leaves(question):
        if len(first.asked) > 7:
            raise KeyboardInterrupt
        return darkest(question)

    first, reward = person("cut", leaves)
    run = begin(config, reward=reward, prompts=HELD_OUT)
    with pytest.raises(KeyboardInterrupt):
        drive(run)
    run.close()
    assert first.clicks.count == 7
    second, reward = person("cut")
    resumed = begin(config, reward=reward, prompts=HELD_OUT, resume=run.folder.name)
    drive(resumed)
    found = resumed.finish()
    assert second.asked == whole.asked[7:]
    assert [question.key for question, _ in second.clicks.all()] == whole.asked
    assert same(found.lora, expected.lora)
    if learns:
        assert files(resumed)["summary"]["reward_after"] == pytest.approx(summary["reward_after"], rel=1e-3)
        assert math.isfinite(summary["reward_after"])


def test_a_run_that_is_only_finished_is_measured_by_the_taste_of_its_answers(begin, eyes, tmp_path):
    config = toy_config(iterations=3)
    for resume in ("none", "pave_00001"):
        reward = PersonReward(Remembers(tmp_path / "clicks", darkest), learner=Learner(eyes))
        run = begin(config, reward=reward, prompts=HELD_OUT, resume=resume)
        drive(run)
        run.finish()
        run.close()
        assert files(run)["summary"]["reward_after"] is not None


def test_a_guard_that_would_have_to_ask_is_refused(begin, places):
    person = PersonReward(Asker())
    guarded = GuardSettings(GuardConfig(max_drift=0.5), person)
    with pytest.raises(ConfigError, match="guard: its reward 'person' asks a person.*nothing to watch"):
        begin(guard=guarded)
    with pytest.raises(ConfigError, match="guard: there is nothing to watch"):
        begin(reward=person, guard=GuardSettings(GuardConfig(), None))
    assert list(places.runs.iterdir()) == []
    run = begin(reward=person, guard=GuardSettings(GuardConfig(every=2, max_drop=1.0), Redness()))
    drive(run)
    assert len(run.watch.readings) == 2


def test_a_judge_and_candidates_that_would_have_to_ask_are_refused():
    person, plain = PersonReward(Asker()), Brightness()
    with pytest.raises(ConfigError, match="judge: 'person' asks a person"):
        Task(toy_config(), RunSettings(), HELD_OUT, RewardMix.of(plain), person)
    config = toy_config(candidates=2)
    with pytest.raises(ConfigError, match="candidates: 2 prompts would be compared"):
        Task(config, RunSettings(), HELD_OUT, RewardMix((person, plain), (1.0, 1.0)))
    Task(config, RunSettings(), HELD_OUT, RewardMix.of(plain))
    with pytest.raises(ConfigError, match="a mix that asks a person is part of another mix"):
        RewardMix((RewardMix.of(person), plain), (1.0, 1.0))


def test_a_person_alone_cannot_be_checked():
    from _toy import ToyTraining
    from pave_core.evaluation.reward_check import check_reward

    run = ToyTraining(reward=PersonReward(Asker()))
    parts = {"conds": run.conds, "config": run.config}
    with pytest.raises(ConfigError, match="reward: 'person' asks a person"):
        check_reward(run.policy, run.decoder, reward=run.reward, **parts)
    both = RewardMix((PersonReward(Asker()), Brightness()), (1.0, 1.0))
    assert check_reward(run.policy, run.decoder, reward=both, **parts).rewards.keys() == {"brightness"}
