"""A guard at work in one run: it measures, keeps the best weights, and acts on alarms.

After each step, the run asks due(), evaluates the held-out prompts, and passes that to check(). Then the state may have
been sent back to the best weights with half the learning rate, or `stopped` says why the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..evaluation.drift import DriftProbe
from ..evaluation.evaluate import Evaluation
from ..evaluation.guard import Baseline, Best, GuardConfig, Reading, read
from ..training.state import Checkpoint, TrainState
from ..types import Policy

MAX_HALVINGS = 3
"""After this many halvings of the learning rate, also by hand, the next alarm ends the run."""


class Watch:
    """The guard of one run, with its readings and the best state so far.

    Make it before the first step, or before a resumed run goes on (see resume). before: the base model's evaluation;
    fresh: the state at step 0. ConfigError if the guard could never raise an alarm.
    """

    def __init__(self, config: GuardConfig, before: Evaluation, *, probe: DriftProbe, fresh: Checkpoint) -> None:
        self.config = config
        self.base = Baseline.of(before, config)
        self.best = fresh  # a checkpoint whose recipe is {"held_out": mean of the guard's reward}; {} for `fresh`
        self.readings: list[Reading] = []
        self.stopped: str | None = None
        self._probe = probe

    def due(self, step: int) -> bool:
        """Whether the run is to be measured after `step`."""
        return step % self.config.every == 0

    def steps_to_check(self, step: int) -> int:
        """Steps from `step` to the next measurement."""
        return self.config.every - step % self.config.every

    def check(self, policy: Policy, state: TrainState, evaluation: Evaluation) -> Reading:
        """Read the numbers after the step that `state` has just completed, and act on alarms.

        evaluation: of the policy with the weights that are saved. An alarm sends `state` back to the best weights, or
        sets `stopped`.
        """
        best = Best(self.best.step, self.best.recipe.get("held_out"))
        with state.showing():
            drift = self._probe.measure(policy)
        reading = read(evaluation, drift, step=state.step, config=self.config, base=self.base, best=best)
        self.readings.append(reading)
        if reading.best:
            self.best = state.capture({"held_out": reading.held_out})
        if reading.alarms:
            if self.config.action == "stop" or state.halvings >= MAX_HALVINGS:
                self.stopped = "; ".join(reading.alarms)
            else:
                state.return_to(self.best)
                state.halve()
        return reading

    def has_read(self, step: int) -> bool:
        """Whether there is a reading of `step`."""
        return any(reading.step == step for reading in self.readings)

    @property
    def chosen(self) -> Checkpoint | None:
        """The state whose weights are the run's: the best; None, for the current one, before the first reading."""
        return self.best if self.best.step or any(reading.alarms for reading in self.readings) else None

    def resume(self, readings: Sequence[Reading], best: Checkpoint | None, newest: Checkpoint) -> None:
        """Continue with the readings and the best state of a run that is resumed at `newest`.

        Where the best state is lost, the newest stands in until the next reading.
        """
        self.readings = list(readings)
        if best is not None:
            self.best = best
        elif any(reading.best for reading in readings):
            self.best = replace(newest, recipe={})
