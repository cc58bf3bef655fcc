"""A guard at work in one run: it measures, keeps the best weights, and acts on alarms.

Whoever drives the run asks due() after each step, measures the held-out prompts, and passes that to check(). After that the state may have been
sent back to the best weights with half the learning rate, or `stopped` says why the run is to end.
"""

from __future__ import annotations

from ..evaluation.evaluate import Evaluation
from ..evaluation.guard import MAX_HALVINGS, DriftProbe, Guard, GuardConfig, Reading
from ..training.loop import TrainState
from ..types import Policy
from .checkpoint import Checkpoint


class Watch:
    """Made before the first step, or before a resumed run goes on: `fresh` is the state at step 0."""

    def __init__(self, config: GuardConfig, before: Evaluation, probe: DriftProbe, fresh: Checkpoint) -> None:
        self.guard = Guard(config, before)
        self.best = fresh
        self.alarmed = False
        self.stopped: str | None = None
        self.readings: list[Reading] = []
        self._probe = probe

    def due(self, step: int) -> bool:
        """Whether the run is measured after this step."""
        return step % self.guard.config.every == 0

    def steps_to_check(self, step: int) -> int:
        """Steps from `step` to the next measurement."""
        return self.guard.config.every - step % self.guard.config.every

    def check(self, policy: Policy, state: TrainState, evaluation: Evaluation) -> Reading:
        """Measure after the step that `state` has just completed, and act."""
        reading = self.guard.read(state.step, evaluation, self._probe.measure(policy))
        self.readings.append(reading)
        if reading.best:
            self.best = state.capture({"held_out": reading.held_out})
        if reading.alarms:
            self.alarmed = True
            if self.guard.config.action == "stop" or state.halvings == MAX_HALVINGS:
                self.stopped = "; ".join(reading.alarms)
            else:
                state.return_to(self.best)
                state.halvings += 1
        return reading

    @property
    def chosen(self) -> Checkpoint | None:
        """The state whose weights come out of the run: the best one; None, for the newest, where nothing was measured yet."""
        return self.best if self.guard.best_step or self.alarmed else None

    def resume(self, readings: list[Reading], best: Checkpoint | None) -> None:
        """Go on with what the run had before."""
        self.readings = readings
        self.alarmed = any(reading.alarms for reading in readings)
        if best is not None:
            self.best = best
            self.guard.resume(best.recipe["held_out"], best.step)
