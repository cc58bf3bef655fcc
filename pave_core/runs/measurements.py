"""The held-out evaluations of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..evaluation.evaluate import Evaluation


class Measurements:
    """The evaluations by step, that of the base model under 0. evaluate: evaluates the policy as it is.

    again: an earlier evaluation as its rewards would score it now. With each new one, all are: a reward that learns
    while it trains says more or less of the same image, and a gain compares what was scored by one and the same.
    """

    def __init__(
        self,
        before: Evaluation,
        evaluate: Callable[[], Evaluation],
        again: Callable[[Evaluation], Evaluation] = lambda evaluation: evaluation,
    ) -> None:
        self.evaluations: dict[int, Evaluation] = {0: before}
        self._evaluate, self._again = evaluate, again

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
            self.replace(step)
            for other in self.evaluations.keys() - {0, step, *keep}:
                self.evaluations[other] = self.evaluations[other].without_images()
        return self.evaluations[step], not known

    def has_images(self, step: int) -> bool:
        """Whether there is an evaluation of `step` that still has its images."""
        return step in self.evaluations and len(self.evaluations[step].images) > 0

    def replace(self, step: int) -> None:
        """Evaluate the policy as it is, and store that as the evaluation of `step`, in place of an earlier one."""
        self.evaluations[step] = self._evaluate()
        self.evaluations = {other: self._again(evaluation) for other, evaluation in self.evaluations.items()}
