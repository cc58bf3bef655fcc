"""The held-out evaluations of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..evaluation.evaluate import Evaluation


class Measurements:
    """The evaluations by step, the base model's under 0. `measure` evaluates the policy as it is."""

    def __init__(self, before: Evaluation, measure: Callable[[], Evaluation]) -> None:
        self.evaluations: dict[int, Evaluation] = {0: before}
        self._measure = measure

    @property
    def before(self) -> Evaluation:
        """The base model's."""
        return self.evaluations[0]

    def of(self, step: int, keep: Iterable[int] = ()) -> tuple[Evaluation, bool]:
        """(evaluation of the policy as it is after `step`, whether it was made just now: it is made once).

        Pictures stay in memory for the base model, for `step`, and for the steps in `keep`.
        """
        known = step in self.evaluations
        if not known:
            self.evaluations[step] = self._measure()
            for other in self.evaluations.keys() - {0, step, *keep}:
                self.evaluations[other] = self.evaluations[other].without_images()
        return self.evaluations[step], not known

    def has_images(self, step: int) -> bool:
        """Whether the evaluation of `step` is there with its pictures."""
        return step in self.evaluations and len(self.evaluations[step].images) > 0

    def again(self, step: int) -> None:
        """Measure the policy as it is, once more, as that of `step`."""
        self.evaluations[step] = self._measure()
