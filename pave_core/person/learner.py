"""What learns a person's taste while the person answers, and says where it needs no answer any more."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..files import WriteError
from .choice import Choice, Question
from .taste import ClipFeatures, Taste, learn_taste

logger = logging.getLogger("pave")
LEAST = 4
"""Answers, with something compared, from which a taste is learnt."""


class Learner:
    """The taste, learnt anew as answers come. The features of each question are kept.

    before: a taste that is known already, from which is learnt on. alone_after: answers after which it may score a
    question by itself; 0: never. sure: how sure it must be of a question for that (Taste.sureness), from 0.5 to 1.
    save: called with each new taste, such as to write it to a file.
    """

    def __init__(
        self,
        features: ClipFeatures,
        *,
        before: Taste | None = None,
        alone_after: int = 0,
        sure: float = 0.8,
        save: Callable[[Taste], None] | None = None,
    ) -> None:
        if alone_after < 0:
            raise ConfigError(f"alone_after: {alone_after} is below 0: give a number of answers, or 0 for never")
        if not 0.5 <= sure <= 1:
            raise ConfigError(f"sure: {sure} is outside [0.5, 1]: 0.5 is a guess, 1 is certain")
        self.features, self.taste = features, before
        self.answers = 0  # in this run, with something compared
        self._before, self._alone_after, self._sure, self._save = before, alone_after, sure, save
        self._known: dict[str, Tensor] = {}  # phi (n, D) by the question's key
        self._learnt: list[tuple[str, Choice]] = []

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return {**self.features.describe(), "alone_after": self._alone_after, "sure": self._sure}

    def learn(self, answered: Sequence[tuple[Question, Choice]]) -> None:
        """Learn the taste from all answers, the oldest first, if they are not what it was learnt from already."""
        compared = [(question, choice) for question, choice in answered if choice.pairs()]
        known = [(question.key, choice) for question, choice in compared]
        if known == self._learnt:
            return
        self._learnt = known
        found = []
        for question, choice in compared:
            try:
                found.append((self._phi(question), choice))
            except ConfigError as error:  # its pictures were damaged
                logger.warning(f"Pave-GRPO {error}: this answer teaches nothing")
        self.answers = len(found)
        if len(found) < LEAST:
            self.taste = self._before
            return
        self.taste = learn_taste(found, self.features, self._before)
        if self.taste is not None and self._save is not None:
            try:
                self._save(self.taste)
            except WriteError as error:  # the answers are on disk, and make it again
                logger.warning(f"Pave-GRPO {error}: the taste is used, and tried again with the next answer")

    def guess(self, question: Question) -> Tensor:
        """The scores (n,) that the taste gives the images of a question, of mean 0; NaN without a taste."""
        scores = self.scores(self._phi(question))
        return scores - scores.mean()

    def needs_no_answer(self, question: Question) -> bool:
        """Whether a question may be scored by the taste alone."""
        if self.taste is None or not self._alone_after or self.answers < self._alone_after:
            return False
        return self.taste.sureness(self._phi(question)) >= self._sure

    def scores(self, phi: Tensor) -> Tensor:
        """phi (N, D) -> (N,) by the taste, NaN without one."""
        return torch.full((len(phi),), math.nan) if self.taste is None else self.taste.scores(phi)

    def _phi(self, question: Question) -> Tensor:
        if question.key not in self._known:
            self._known[question.key] = self.features(question.images)
        return self._known[question.key]
