"""A person as a reward: what is asked, in how many questions, and what becomes of the answers."""

import math

import pytest
import torch

from _person import Asker, brightest, click, shapes
from _toy import Brightness, ToyTraining, toy_config
from pave_core.errors import ConfigError
from pave_core.person.bradley_terry import scores_of
from pave_core.person.choice import Choice, Question
from pave_core.person.learner import LEAST, Learner
from pave_core.person.reward import PersonReward
from pave_core.scoring.mix import RewardMix, Scores
from pave_core.types import Groups


def images(n, seed=0):
    return torch.rand(n, 8, 8, 3, generator=torch.Generator().manual_seed(seed))


def sizes(prompts, group, at_once):
    asker = Asker()
    PersonReward(asker, at_once=at_once).ask(images(len(prompts)), prompts, Groups(group))
    assert len(asker.calls) == 1
    return [(question.prompt, len(question.images)) for question in asker.calls[0]]


@pytest.mark.parametrize(
    ("prompts", "group", "at_once", "expected"),
    [
        ("aaaaaabbbbbb", 6, 12, [("a", 6), ("b", 6)]),
        ("aaaaaabbbbbb", 3, 12, [("a", 6), ("b", 6)]),
        ("aaaaaaaaabbb", 3, 6, [("a", 6), ("a", 3), ("b", 3)]),
        ("aaaaaa", 2, 5, [("a", 4), ("a", 2)]),
        ("a" * 13, 13, 12, [("a", 6), ("a", 7)]),
        ("a" * 24 + "b" * 24, 24, 12, [("a", 12), ("a", 12), ("b", 12), ("b", 12)]),
        ("a" * 8 + "b" * 8, 4, 4, [("a", 4), ("a", 4), ("b", 4), ("b", 4)]),
    ],
)
def test_groups_become_questions(prompts, group, at_once, expected):
    assert sizes(list(prompts), group, at_once) == expected


def test_the_scores_are_those_of_the_answers_in_their_places():
    answers = {"a": Choice("ranked", ((1,), (3,))), "b": Choice("none"), "c": Choice("skipped"), "d": click(2, 4)}
    asker = Asker(lambda question: answers[question.prompt])
    scores = PersonReward(asker).ask(images(16), [prompt for prompt in "abcd" for _ in range(4)], Groups(4))
    expected = torch.cat([scores_of(answers[prompt], 4) for prompt in "abcd"])
    torch.testing.assert_close(scores, expected, equal_nan=True)
    assert scores.isnan().sum() == 2 + 4 + 4


def test_what_is_shown_is_what_is_scored_in_eight_bits():
    asker, given = Asker(), images(4)
    PersonReward(asker).ask(given, ["a"] * 4, Groups(4))
    (question,) = asker.calls[0]
    assert torch.equal(question.images, (given * 255).round().byte())


def test_nobody_is_asked_about_anything_else():
    asker = Asker()
    reward = PersonReward(asker)
    assert reward(images(3), ["a"] * 3).isnan().all()
    mix = RewardMix((reward, Brightness()), (1.0, 1.0))
    scores = mix.score(images(3), ["a"] * 3)
    assert asker.calls == []
    assert not scores.asked
    assert scores.total().isnan().all()
    assert mix.may_abstain
    assert mix.asks
    asked = mix.score(images(3), ["a"] * 3, groups=Groups(3))
    assert len(asker.calls) == 1
    assert asked.asked
    assert asked.total().isfinite().all()


def test_the_mix_without_those_that_ask():
    person, plain = PersonReward(Asker()), Brightness()
    assert RewardMix.of(person).unasked is None
    assert RewardMix((person, plain), (1.0, 0.0)).unasked is None
    left = RewardMix((person, plain), (1.0, 0.5), "raw").unasked
    assert (left.rewards, left.weights, left.normalise) == ((plain,), (0.5,), "raw")
    assert not RewardMix.of(plain).asks


def test_at_least_two_images_are_compared():
    with pytest.raises(ConfigError, match="at_once: 1 images"):
        PersonReward(Asker(), at_once=1)


@pytest.mark.parametrize("rollout", [{}, {"contrast": 2}, {"exploration": "trajectories", "branch_steps": (0, 2)}])
def test_a_step_asks_about_its_groups_alone_and_all_at_once(rollout):
    asker = Asker()
    run = ToyTraining(toy_config(iterations=1, **rollout), reward=PersonReward(asker, at_once=4))
    (metrics,) = run.stream()
    groups = 2 * (2 if run.config.rollout.in_branches else 1)
    asked = [[(question.prompt, len(question.images)) for question in call] for call in asker.calls]
    assert [len(call) for call in asked] == ([groups, groups // 2] if rollout.get("contrast") else [groups])
    assert {size for _, size in asked[0]} == {4}
    assert math.isnan(metrics.anchor_reward)
    assert metrics.grad_norm > 0
    assert metrics.rewards.keys() == {"person"}


def test_a_first_step_in_which_nothing_is_said_is_no_error():
    run = ToyTraining(toy_config(iterations=2), reward=PersonReward(Asker(lambda question: Choice("none"))))
    first, second = run.stream()
    assert first.zero_spread_groups == first.groups
    assert first.unscored == 16
    assert not first.skipped
    assert second.step == 2


def test_scores_say_whether_a_person_was_asked_in_any_shape():
    scores = Scores({"person": torch.zeros(8)}, asked=True)
    assert scores.view(2, 4).asked


def test_a_step_that_is_made_again_asks_the_same_questions():
    first, again = Asker(), Asker()
    for asker in (first, again):
        list(ToyTraining(toy_config(iterations=2), reward=PersonReward(asker)).stream())
    keys = [[question.key for call in asker.calls for question in call] for asker in (first, again)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 4  # 2 steps of 2 prompts, whose 2 groups of 4 are one question


# what learns from the answers


def answered(asker, numbers):
    """Questions about shapes, in groups of 12: (images, prompts)."""
    questions = [shapes(number) for number in numbers]
    return torch.cat([question.images for question in questions]) / 255, ["a shape"] * 12 * len(questions)


def person(eyes, answer=brightest, **settings):
    asker = Asker(answer)
    return asker, PersonReward(asker, learner=Learner(eyes, **settings))


def test_a_taste_is_learnt_as_answers_come_and_scores_what_nobody_is_asked(eyes):
    saved = []
    asker, reward = person(eyes, save=saved.append)
    for step in range(4):
        assert reward(shapes(99).images / 255, [""] * 12).isnan().all() == (2 * step < LEAST)
        reward.ask(*answered(asker, [2 * step, 2 * step + 1]), Groups(12))
    assert [taste.choices for taste in saved] == [4, 6, 8]
    assert reward.learner.taste is saved[-1]
    assert reward.learner.answers == 8
    assert torch.equal(reward(shapes(99).images / 255, [""] * 12), saved[-1].scores(eyes(shapes(99).images)))


def test_what_it_is_sure_of_is_not_asked(eyes):
    asker, reward = person(eyes, alone_after=20, sure=0.8)
    for step in range(12):
        scores = reward.ask(*answered(asker, [2 * step, 2 * step + 1]), Groups(12)).view(2, 12)
        assert scores.isfinite().all()
        torch.testing.assert_close(scores.mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    before = len(asker.answers)
    numbers = range(100, 130)
    scores = reward.ask(*answered(asker, numbers), Groups(12)).view(30, 12)
    asked = {question.key for question in asker.calls[-1]}
    learner = reward.learner
    assert 20 <= before <= 24
    assert 0 < len(asked) < 30
    for number, found in zip(numbers, scores, strict=True):
        assert (shapes(number).key in asked) == (len(found.round(decimals=3).unique()) == 2)  # a click on one
    assert learner.answers == len(asker.answers)


def test_it_always_asks_until_it_may_go_on_alone(eyes):
    asker, reward = person(eyes, alone_after=0, sure=0.5)
    other, early = person(eyes, alone_after=100, sure=0.5)
    for each, made in ((asker, reward), (other, early)):
        for number in range(12):
            made.ask(*answered(each, [number]), Groups(12))
        assert len(each.answers) == 12


def test_without_a_sure_question_left_nobody_is_called(eyes):
    asker, reward = person(eyes, alone_after=8, sure=0.5)
    for number in range(8):
        reward.ask(*answered(asker, [number]), Groups(12))
    calls = len(asker.calls)
    assert reward.ask(*answered(asker, [50, 51]), Groups(12)).isfinite().all()
    assert len(asker.calls) == calls


def test_a_resumed_step_decides_as_it_did(eyes):
    """What was answered in the step itself, and after it, is not known to it."""
    asker, reward = person(eyes, alone_after=10, sure=0.7)
    made = [reward.ask(*answered(asker, [3 * step, 3 * step + 1, 3 * step + 2]), Groups(12)) for step in range(8)]
    asked = [[question.key for question in call] for call in asker.calls]
    resumed = Asker(lambda question: pytest.fail("asked again"))
    resumed.answers = dict(asker.answers)
    reward = PersonReward(resumed, learner=Learner(eyes, alone_after=10, sure=0.7))
    again = [reward.ask(*answered(resumed, [3 * step, 3 * step + 1, 3 * step + 2]), Groups(12)) for step in range(8)]
    assert [[question.key for question in call] for call in resumed.calls] == asked
    for one, other in zip(made, again, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_withdrawn_teaches_nothing(eyes):
    asker, reward = person(eyes)
    for number in range(6):
        reward.ask(*answered(asker, [number]), Groups(12))
    six = reward.learner.taste
    asker.answers.popitem()
    reward.ask(*answered(asker, [9]), Groups(12))
    asker.answers.popitem()
    reward.learner.learn(asker.answered())
    asked, other = person(eyes)
    for number in range(5):
        other.ask(*answered(asked, [number]), Groups(12))
    torch.testing.assert_close(reward.learner.taste.weight, other.learner.taste.weight)
    assert not torch.equal(reward.learner.taste.weight, six.weight)


def test_an_answer_whose_pictures_are_damaged_teaches_nothing(eyes, caplog):
    class Damaged(Question):
        @property
        def images(self):
            raise ConfigError("pictures: those of question x cannot be read")

        def __init__(self):
            object.__setattr__(self, "key", "x")

    learner = Learner(eyes)
    learner.learn([(Damaged(), click(0)), *((shapes(number), click(0)) for number in range(4))])
    assert learner.answers == 4
    assert learner.taste.choices == 4
    assert "pictures: those of question x cannot be read: this answer teaches nothing" in caplog.text


def test_images_are_scored_again_from_their_features(eyes):
    asker, reward = person(eyes)
    mix = RewardMix((reward, Brightness()), (1.0, 0.5))
    given = shapes(99).images / 255
    features = mix.features(given)
    before = mix.score(given, ["a"] * 12, features=features)
    assert before.values["person"].isnan().all()
    for number in range(6):
        reward.ask(*answered(asker, [number]), Groups(12))
    again = mix.scored_again(before.values, features)
    for name, values in mix.score(given, ["a"] * 12).values.items():
        torch.testing.assert_close(again.values[name], values)
    assert again.total().isfinite().all()
    assert RewardMix.of(PersonReward(Asker())).features(given) == {}


@pytest.mark.parametrize(("settings", "said"), [({"alone_after": -1}, "alone_after: -1"), ({"sure": 0.3}, "sure: 0.3")])
def test_settings_outside_their_range_are_refused(eyes, settings, said):
    with pytest.raises(ConfigError, match=said):
        Learner(eyes, **settings)
