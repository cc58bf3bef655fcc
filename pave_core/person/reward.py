"""A person as a reward: asked about the images that are trained on, never about others.

In a training step the groups of images become questions, all of which go to the person at once. The scores are those of
Bradley and Terry over what was said (bradley_terry.py); an image of which nothing was said has none. Whatever else is
to be scored (evaluations, anchors, candidates, checks) is scored by what was learnt of the person's taste, if anything
was (learner.py): nobody is asked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from math import ceil

import torch
from torch import Tensor

from ..errors import ConfigError
from ..images import eight_bit
from ..types import Groups
from .bradley_terry import scores_of
from .choice import Asker, Choice, Question
from .learner import Learner

AT_ONCE = 12
"""Images of a question: what can be taken in at one look."""
Answered = tuple[Question, Choice]


class PersonReward:
    """The reward. at_once: the most images of a question, at least 2. learner: learns the person's taste from the
    answers, or None.
    """

    name = "person"
    may_abstain = True

    def __init__(self, asker: Asker, *, at_once: int = AT_ONCE, learner: Learner | None = None) -> None:
        if at_once < 2:
            raise ConfigError(f"at_once: {at_once} images cannot be compared: show at least 2")
        self._asker, self._at_once, self._learner = asker, at_once, learner

    @property
    def learner(self) -> Learner | None:
        """What learns from the answers."""
        return self._learner

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        learner = None if self._learner is None else self._learner.describe()
        return {"at_once": self._at_once, "learner": learner}

    def ask(self, images: Tensor, prompts: Sequence[str], groups: Groups) -> Tensor:
        """Ask about images (N, H, W, 3) in [0, 1] with N prompts -> (N,) fp32, NaN where nothing was said.

        The groups of one prompt are put into one question as long as it has at most at_once images; a larger group is
        divided evenly.
        """
        scores = torch.full((len(images),), math.nan)
        asked = []
        for part, question, alone in self._questions(images, prompts, groups):
            if alone:
                assert self._learner is not None
                scores[part] = self._learner.guess(question)
            else:
                asked.append((part, question))
        choices = self._asker.ask([question for _, question in asked]) if asked else []
        for (part, question), choice in zip(asked, choices, strict=True):
            scores[part] = scores_of(choice, len(question.images))
        if self._learner is not None:
            self._learner.learn(self._asker.answered())
        return scores

    def put(self, images: Tensor, prompts: Sequence[str], groups: Groups) -> None:
        """Show the person already what ask() will ask."""
        asked = [question for _, question, alone in self._questions(images, prompts, groups) if not alone]
        if asked:
            self._asker.put(asked)

    def _questions(self, images: Tensor, prompts: Sequence[str], groups: Groups) -> list[tuple[slice, Question, bool]]:
        """(which images, the question, whether the taste answers it alone) of each question."""
        pixels = torch.from_numpy(eight_bit(images[..., :3]))
        parts = list(_parts(prompts, groups.size, self._at_once))
        questions = [
            Question(str(prompts[part.start]), pixels[part], step=groups.step, seed=groups.seed) for part in parts
        ]
        if self._learner is None:
            return [(part, question, False) for part, question in zip(parts, questions, strict=True)]
        answered = self._asker.answered()
        self._learner.learn(_until(answered, questions))
        known = {question.key for question, _ in answered}
        return [
            (part, question, question.key not in known and self._learner.needs_no_answer(question))
            for part, question in zip(parts, questions, strict=True)
        ]

    @property
    def learns(self) -> bool:
        """Whether its scores of the same images change as it learns: they are then kept as features()."""
        return self._learner is not None

    def features(self, images: Tensor) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N, D), from which of_features() scores them, now or later."""
        assert self._learner is not None
        self._learner.learn(self._asker.answered())  # also of a run that is resumed, before its first question
        return self._learner.features(images)

    def of_features(self, features: Tensor) -> Tensor:
        """(N, D) of features() -> the scores (N,) that __call__ would give now."""
        assert self._learner is not None
        return self._learner.scores(features)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32 by the taste that was learnt; NaN as long as there is none."""
        if self._learner is None:
            return torch.full((len(images),), math.nan)
        return self.of_features(self.features(images))


def _until(answered: Sequence[Answered], questions: Sequence[Question]) -> list[Answered]:
    """What was answered before these questions were: a resumed step knows no more than it did the first time."""
    keys = {question.key for question in questions}
    return list(itertools.takewhile(lambda each: each[0].key not in keys, answered))


def _parts(prompts: Sequence[str], group: int, at_once: int) -> Iterator[slice]:
    """The images of each question, in order."""
    begin = 0
    for _, same in itertools.groupby(prompts[::group]):
        groups = len(list(same))
        together = max(1, at_once // group)  # groups of a question
        pieces = ceil(group / at_once)  # of a group
        while groups:
            now = min(together, groups)
            size = now * group
            cuts = [begin + round(i * size / pieces) for i in range(pieces + 1)]
            yield from (slice(a, b) for a, b in itertools.pairwise(cuts))
            begin += size
            groups -= now
