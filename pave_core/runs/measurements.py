"""The held-out evaluations of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..evaluation.evaluate import Evaluation


class Measurements:
    """The evaluations by step, that of the base model under 0. measure: evaluates the policy as it is."""

    def __init__(self, before: Evaluation, evaluate: Callable[[], Evaluation]) -> None:
        self.evaluations: dict[int, Evaluation] = {0: before}
        self._evaluate = evaluate

    @property
    def before(self) -> Evaluation:
        """The evaluation of the base model."""
        return self.evaluations[0]

    def measure(self, step: int, keep: Iterable[int] = ()) -> tuple[Evaluation, bool]:
        """(the evaluation after `step`, whether it is new). If it is not there yet, the policy is evaluated as it is.

        Images stay in memory for the base model, for `step`, and for the steps in `keep`.
        """
        known = step in self.evaluations
        if not known:
            self.evaluations[step] = self._evaluate()
            for other in self.evaluations.keys() - {0, step, *keep}:
                self.evaluations[other] = self.evaluations[other].without_images()
        return self.evaluations[step], not known

    def has_images(self, step: int) -> bool:
        """Whether there is an evaluation of `step` that still has its images."""
        return step in self.evaluations and len(self.evaluations[step].images) > 0

    def replace(self, step: int) -> None:
        """Evaluate the policy as it is, and store that as the evaluation of `step`, in place of an earlier one."""
        self.evaluations[step] = self._evaluate()
