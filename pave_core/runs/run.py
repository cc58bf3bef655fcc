"""A run under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config.train import TrainConfig
from ..errors import TrainingError
from ..evaluation.gain import Comparison
from ..evaluation.guard import Reading
from ..files import finite
from ..pictures.curve import reward_curve
from ..pictures.sheets import before_after_grid
from ..policies.lora_file import LoraWeights, save_lora
from ..rollout.run_batches import RunBatches
from ..scoring.groups import mean
from ..training.metrics import StepMetrics
from ..training.state import Checkpoint, TrainState
from ..types import Cond, Decoder, RunPolicy
from .checkpoint import save_checkpoint
from .folder import Places, RunFolder
from .log import Reporter
from .measurements import Measurements
from .recipe import recipe_of
from .report import GuardSummary, RunSummary
from .settings import Task
from .watch import Watch


@dataclass(frozen=True)
class Outcome:
    """What a finished run gives."""

    lora: LoraWeights
    history: list[dict[str, Any]]  # one record per step, as in metrics.jsonl
    curve: Tensor  # (H, W, 3)
    grid: Tensor | None  # (H, W, 3); None where nothing was measured
    summary: RunSummary


@dataclass(kw_only=True, eq=False)
class Run:
    """A run: the owner of everything in it that changes. begin() makes it.

    Whoever drives it trains inside `with policy:` and calls after_step() after each step; at the end finish(), or
    stop() if the run ends early.
    """

    policy: RunPolicy
    decoder: Decoder
    task: Task
    base: str  # fingerprint of the base model
    conds: Mapping[str, Cond]  # by training prompt
    state: TrainState
    batches: RunBatches
    folder: RunFolder
    places: Places
    history: list[dict[str, Any]]  # as in Outcome
    measurements: Measurements | None
    watch: Watch | None
    reporter: Reporter
    started: float  # time.perf_counter() at the beginning
    _kept: int = -1  # the step whose checkpoint and LoRA are on disk; -1: they must be written

    @property
    def config(self) -> TrainConfig:
        """The settings, with as many iterations as have been announced so far (see expect)."""
        return self.task.config

    def expect(self, steps: int) -> None:
        """Announce that `steps` more steps will be made."""
        run = replace(self.config.run, iterations=self.state.step + steps)
        self.task = replace(self.task, config=replace(self.config, run=run))

    @property
    def stopped(self) -> str | None:
        """Why the guard has ended the run; None if it has not."""
        return None if self.watch is None else self.watch.stopped

    @property
    def chosen(self) -> Checkpoint | None:
        """The state whose weights are the run's: the guard's best; None: the current one."""
        return None if self.watch is None else self.watch.chosen

    @property
    def chosen_step(self) -> int:
        """The step whose weights are the run's."""
        return self.state.step if self.chosen is None else self.chosen.step

    def recipe(self) -> dict[str, Any]:
        """Everything that is needed to train this LoRA again, as JSON values."""
        return recipe_of(self.policy, self.task, self.base)

    def lora(self) -> LoraWeights:
        """The LoRA of chosen_step, with its recipe."""
        values = (self.state.average or None) if self.chosen is None else self.chosen.weights
        return LoraWeights(self.policy.export(values), self.recipe() | {"step": self.chosen_step})

    def after_step(self, metrics: StepMetrics) -> None:
        """Report a completed step, and measure and save when that is due."""
        self.history.append(finite(metrics.to_dict()))
        self.reporter.step(metrics, self.config.run.iterations)
        step, every = metrics.step, self.task.settings.evaluate_every
        guarded = self.watch is not None and self.watch.due(step)
        if self.measurements is not None and (guarded or (every and step % every == 0)):
            self._measure(self.measurements)
        if guarded:
            self._watch()
        if guarded or step % self.config.run.checkpoint_every == 0 or step >= self.config.run.iterations:
            self.keep()

    def keep(self) -> Path:
        """Write the checkpoint, the LoRA so far and the evaluations, and return the LoRA's path."""
        path = self.places.lora(self.folder.name)
        if self._kept != self.state.step:
            save_checkpoint(self.folder.checkpoint, self.state.capture(self.recipe()))
            save_lora(path, self.lora())
            self._kept = self.state.step
        if self.measurements is not None:  # also where checkpoint and LoRA are up to date: there may be new evaluations
            self.folder.save_evaluations(self.measurements.evaluations)
        return path

    def stop(self, why: str) -> None:
        """End the run early: keep what was learnt, and report where. why: how the message begins."""
        try:
            if self.state.step == 0:
                self.folder.discard()
                self.reporter.message(f"{why} before its first step: there is nothing to keep", warning=True)
                return
            lora = self.keep()
            self.reporter.message(
                f"{why} after step {self.state.step}: LoRA so far in {lora}, checkpoint in {self.folder.checkpoint}; "
                f"to go on, set resume to {self.folder.name!r}",
                warning=True,
            )
        finally:
            self.reporter.close()

    def finish(self) -> Outcome:
        """End the run: measure, save the LoRA, the pictures and the summary, and return them.

        TrainingError if no step was made.
        """
        if not self.history:
            raise TrainingError("no step was made: there is nothing to finish")
        with self.policy:
            if self.measurements is not None:
                self._measure(self.measurements)
                self._measure_chosen(self.measurements)
            self.keep()
            lora = self.lora()
        self.reporter.close()
        curve, grid = self._curve(), self._grid()
        for name, picture in (("curve", curve), ("grid", grid)):
            if picture is not None:
                self.folder.save_picture(name, picture)
        summary = self._summary()
        self.folder.save_summary(summary.to_dict())
        return Outcome(lora, list(self.history), curve, grid, summary)

    def _measure(self, measurements: Measurements) -> None:
        """Evaluate the policy with the weights that are saved, unless this step has been evaluated already."""
        keep = () if self.chosen is None else (self.chosen.step,)
        with self.state.showing():
            evaluation, new = measurements.measure(self.state.step, keep)
        if new:
            self.reporter.numbers(self.state.step, {"held_out/reward": mean(evaluation.total)})

    def _measure_chosen(self, measurements: Measurements) -> None:
        """Let the guard read the last step, and evaluate the chosen step again if its images are no longer there.

        They are gone if it was evaluated before the run was resumed.
        """
        if self.watch is not None and not self.watch.has_read(self.state.step):
            self._watch()
        chosen = self.chosen
        if chosen is not None and not measurements.has_images(chosen.step):
            with self.state.showing(chosen):
                measurements.replace(chosen.step)

    def _watch(self) -> None:
        """Let the guard measure and act, and record its reading."""
        assert self.watch is not None
        assert self.measurements is not None
        reading = self.watch.check(self.policy, self.state, self.measurements.measure(self.state.step)[0])
        self._kept = -1  # the state may have been sent back, and another step may have been chosen
        self._record(reading, self.watch)

    def _record(self, reading: Reading, watch: Watch) -> None:
        self.folder.append_reading(reading)
        numbers = {"guard/held_out": reading.held_out, "guard/drift": reading.drift}
        changes = {f"guard/{name}": change for name, change in reading.changes.items()}
        self.reporter.numbers(reading.step, finite(numbers | changes))
        if reading.best:
            save_checkpoint(self.folder.best, watch.best)
        then = "the run ends here" if watch.stopped else f"back to step {watch.best.step} with half the learning rate"
        for alarm in reading.alarms:
            self.reporter.message(f"guard, step {reading.step}: {alarm}; {then}", warning=True)

    def _curve(self) -> Tensor:
        evaluations = {} if self.measurements is None else self.measurements.evaluations
        guarded = {} if self.watch is None else {"readings": self.watch.readings, "chosen": self.chosen_step}
        return reward_curve(self.history, evaluations, **guarded)

    def _grid(self) -> Tensor | None:
        if self.measurements is None:
            return None
        return before_after_grid(self.measurements.before, self.measurements.evaluations[self.chosen_step])

    def _summary(self) -> RunSummary:
        measured, watch, chosen = self.measurements, self.watch, self.chosen_step
        pictures = ("curve",) if measured is None else ("curve", "grid")
        return RunSummary.of(
            self.history,
            steps=self.state.step,
            train_seconds=time.perf_counter() - self.started,
            held_out_prompts=len(self.task.prompts.held_out),
            comparison=None if measured is None else Comparison.of(measured.before, measured.evaluations[chosen]),
            guard=None
            if watch is None
            else GuardSummary.of(watch.readings, stopped=watch.stopped, chosen=chosen, base=watch.base.held_out),
            files={
                "run_folder": str(self.folder.path),
                "lora": str(self.places.lora(self.folder.name)),
                **{name: str(self.folder.path / f"{name}.png") for name in pictures},
            },
        )
