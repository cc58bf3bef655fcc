"""A run under way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor

from ..config.train import TrainConfig
from ..errors import PaveError, TrainingError, in_words
from ..evaluation.gain import Comparison, paired_gain
from ..evaluation.guard import Reading
from ..files import finite
from ..pictures.curve import reward_curve
from ..pictures.sheets import before_after_grid
from ..policies.lora_file import LoraWeights
from ..rollout.run_batches import RunBatches
from ..scoring.groups import mean
from ..training.loop import train
from ..training.metrics import Group, StepMetrics
from ..training.processes import ALONE, Processes
from ..training.state import Checkpoint, TrainState
from ..training.steering import Order, Steering, StepDroppedError
from ..types import Cond, Decoder, RunPolicy
from .folder import RunFolder
from .follower import Nowhere
from .keeper import Keeper
from .log import Reporter
from .measurements import Measurements
from .recipe import STEERED, recipe_of
from .report import DONE, GuardSummary, RunSummary
from .settings import Task
from .watch import Watch

MAX_AGE = 300.0
"""Seconds: no checkpoint is older, but for the step under way."""
MOST_BY_HAND = 20
"""So often the learning rate can be halved by hand."""
WAITS = "it will be evaluated when the gradient under way is done, whose memory it would need"


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

    Whoever drives it trains inside `with policy:` and calls after_step() after each step; at the end finish() and
    close(), or stop() if the run ends early.
    """

    policy: RunPolicy
    decoder: Decoder
    task: Task
    base: str  # fingerprint of the base model
    conds: Mapping[str, Cond]  # by training prompt
    state: TrainState
    batches: RunBatches
    folder: RunFolder | Nowhere
    keeper: Keeper | Nowhere
    history: list[dict[str, Any]]  # as in Outcome
    measurements: Measurements | None
    watch: Watch | None
    reporter: Reporter
    started: float  # steering.clock() at the beginning
    steering: Steering
    steered: list[dict[str, Any]]  # what was done as it was ordered: {"step", "order"} and more; as in the recipe
    kept: int = -1  # the step whose checkpoint is on disk; -1: it must be written
    _kept_lora: int = -1  # the same of the LoRA
    _kept_best: int = 0  # the same of the guard's best state
    _kept_at: float = -math.inf  # time.monotonic() when all was last written
    _group: tuple[int, Group] | None = None  # (step, the group that was compared in it), until it is on disk

    _by_hand: str | None = None  # why it ends before its last step, if that was ordered
    _in_step: bool = False  # whether a step is under way that can be dropped
    _after_step: bool = False  # whether a step is complete, and the next has not begun

    def __post_init__(self) -> None:
        self._kept_best = 0 if self.watch is None else self.watch.best.step
        for order in self.steering.early:
            self._note(order)
            self._say(f"{DONE[order]} before the first step")
        self.steering.act = self._act

    @property
    def config(self) -> TrainConfig:
        """The settings, with as many iterations as have been announced so far (see expect)."""
        return self.task.config

    def expect(self, steps: int) -> None:
        """Announce that `steps` more steps will be made."""
        run = replace(self.config.run, iterations=max(self.state.step + steps, 1))
        self.task = replace(self.task, config=replace(self.config, run=run))

    @property
    def stopped(self) -> str | None:
        """Why the run ends before its last step: the guard's alarms, or by hand; None if it goes on."""
        return self._by_hand or (None if self.watch is None else self.watch.stopped)

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
        steered = {STEERED: list(self.steered)} if self.steered else {}
        return recipe_of(self.policy, self.task, self.base) | steered

    def lora(self) -> LoraWeights:
        """The LoRA of chosen_step, with its recipe."""
        shown = self.chosen or self.state.settled
        values = (self.state.average or None) if shown is None else shown.weights
        return LoraWeights(self.policy.export(values), self.recipe() | {"step": self.chosen_step})

    def steps(self, processes: Processes = ALONE) -> Iterator[StepMetrics]:
        """Train, inside `with policy:`; the metrics of each step, for after_step(). A run without a reward cannot.

        They end early where that is ordered: `stopped` says so.
        """
        assert self.task.reward is not None
        steps = train(
            self.policy,
            self.decoder,
            reward=self.task.reward,
            conds=self.conds,
            config=self.config,
            state=self.state,
            batches=self.batches,
            processes=processes,
            steering=self.steering,
            progress=self.within,
        )
        while True:
            self._in_step = True
            try:
                metrics = next(steps)
            except (StopIteration, StepDroppedError):
                return
            finally:
                self._in_step = False
            yield metrics

    def within(self, what: str, done: int, whole: int) -> None:
        """Report how far the part of the step is that is under way."""
        self.reporter.within(self.state.step + 1, self.config.run.iterations, (what, done, whole))

    def after_step(self, metrics: StepMetrics) -> None:
        """Report a completed step, and measure and save when that is due."""
        self.folder.make_again()  # before the first of its files is written
        self.history.append(finite(metrics.to_dict()))
        self.reporter.step(metrics, self.config.run.iterations)
        step = metrics.step
        if metrics.group is not None:
            self._group = step, metrics.group
        due = self._look() or step % self.config.run.checkpoint_every == 0 or step >= self.config.run.iterations
        if due or time.monotonic() - self._kept_at >= MAX_AGE:  # so also after the first step
            self.keep()
        self._after_step = True
        try:
            self.steering.check()
        finally:
            self._after_step = False

    def _act(self, order: Order) -> bool:
        """Act on an order; whether that is done, and need not wait for a better place. Inside `with policy:`."""
        step = self.state.step
        match order:
            case "pause" | "go on":
                self._note(order)
                self._say(f"{DONE[order]} after step {step}")
                self.reporter.progress("paused" if order == "pause" else "going on", 0, 0)
            case "save" if step == 0:
                self._note(order)
                self._say("there is nothing to save before the first step is complete")
            case "save":
                self._note(order)
                self.keep()
                self._say(f"saved step {step}" if self.kept == step else self.keeper.where(step))
            case "evaluate":
                return self._evaluate()
            case "halve" if self.state.halvings >= MOST_BY_HAND:
                self._note(order, halvings=self.state.halvings)
                self._say(f"the learning rate was halved {MOST_BY_HAND} times: it stays as it is")
            case "halve":
                self.state.halve()
                self._note(order, halvings=self.state.halvings)
                if step:
                    self.keep()  # so that no resumed run goes on without it
                self._say(f"learning rate halved after step {step}")
            case "finish":
                return self._finish_early()
        return True

    def _evaluate(self) -> bool:
        """Measure the last complete step, as ordered."""
        step, measurements = self.state.step, self.measurements
        if measurements is None:
            self._note("evaluate")
            self._say("nothing can be measured: no reward is connected to the node that begins the run")
            return True
        if not self.steering.free:
            if self.steering.said != WAITS:
                self._say(WAITS)
            return False
        self._note("evaluate")
        try:
            self._measure(measurements)
        except PaveError as error:  # what was learnt goes on
            self._say(f"step {step} could not be evaluated: {error}")
            return True
        gain, error = paired_gain(measurements.before.total, measurements.evaluations[step].total)
        self._say(f"evaluated step {step}: gain {gain:+.4f} +- {error:.4f}")
        return True

    def _finish_early(self) -> bool:
        """End the run, as ordered: here, or at the end of the step that nobody could drop."""
        if self.stopped is None and (self.state.step == 0 or not (self._in_step or self._after_step)):
            return False
        self._by_hand = f"stopped by hand after step {self.state.step}"
        self._note("finish")
        self._say(f"{self._by_hand}: it is measured and finished")
        if self._in_step:
            raise StepDroppedError
        return True

    def _note(self, order: Order, **more: Any) -> None:
        """Write down what is done as it was ordered."""
        entry = {"step": self.state.step, "order": order, **more}
        if entry not in self.steered:  # a run may be paused in one step again and again
            self.steered.append(entry)
        self.folder.save_order(entry | {"time": datetime.now(timezone.utc).isoformat(timespec="seconds")})
        self.kept = self._kept_lora = -1  # their recipes say so

    def _say(self, text: str) -> None:
        """Tell people what came of an order."""
        self.steering.said = text
        self.reporter.message(text)

    def catch_up(self) -> None:
        """Of a run that is resumed: let the guard read the step at which it is, if Cancel has cut that off."""
        if self.watch is not None and self.watch.due(self.state.step) and not self.watch.has_read(self.state.step):
            with self.policy:
                self._look()
                self.keep()

    def _look(self) -> bool:
        """Measure, and let the guard act, if that is due after this step; whether the guard was to act."""
        step, every = self.state.step, self.task.settings.evaluate_every
        guarded = self.watch is not None and self.watch.due(step)
        if self.measurements is not None and (guarded or (every and step % every == 0)):
            self._measure(self.measurements)
        if guarded:
            self._watch()
        return guarded

    def keep(self) -> None:
        """Write what was learnt: the LoRA so far, the evaluations, the guard's best state and the checkpoint.

        Each by itself, in this order: a crash between them loses nothing that the checkpoint knows of. What cannot be
        written is a warning, and is tried again the next time.
        """
        step = self.state.step
        self.reporter.progress("saving", 0, 0)
        self.folder.make_again()
        if self._kept_lora != step and self.keeper.save_lora(self.lora()):
            self._kept_lora = step
        if self.measurements is not None:
            self.folder.save_evaluations(self.measurements.evaluations)
            if not self.folder.has_measured(0):
                self.folder.save_measured(0, self.measurements.before)
        if self._group is not None:
            self.folder.save_group(*self._group)
            self._group = None
        best = None if self.watch is None else self.watch.best
        if best is not None and best.step > self._kept_best and self.keeper.save_best(best):
            self._kept_best = best.step
        if self.kept != step and self.keeper.save_checkpoint(self.state.capture(self.recipe())):
            self.kept = step
        self._kept_at = time.monotonic()

    def stop(self, why: str) -> None:
        """End the run early: keep what was learnt, report where, and draw how far it has come. why: how the message
        begins.

        Nothing is raised: what ended the run is what is to be seen.
        """
        try:
            if self.state.step == 0:
                said = f"{why} before its first step: there is nothing to keep"
                self.reporter.message(said, warning=True)
                self.reporter.ended(said, early=True)
                return
            try:
                self.keep()
            except Exception as error:  # such as that of a device after which nothing can be read from it
                said = in_words(error, 150)
                self.reporter.message(f"what was learnt since could not be kept: {said}", warning=True)
            if isinstance(self.folder, RunFolder):
                self._leave(self.folder, why)
            said = f"{why} after step {self.state.step}: {self.keeper.where(self.state.step)}"
            self.reporter.message(said, warning=True)
            self.reporter.ended(said, early=True)
        finally:
            self.close()

    def _leave(self, folder: RunFolder, why: str) -> None:
        """Curve and summary of the part that was trained."""
        try:
            folder.save_picture("curve", self._drawn("curve", self._curve))
            folder.save_summary(self._summary(stopped=why).to_dict())
        except Exception as error:  # it is a report, and a run that ends by an error may have lost what it is made of
            self.reporter.message(f"the summary could not be made ({in_words(error, 150)})", warning=True)

    def close(self) -> None:
        """Give the run's folder free. A new run without a step leaves none behind."""
        self.steering.end()
        self.reporter.close()
        self.policy.rest()
        self.keeper.close()
        if self.state.step == 0:
            self.folder.discard()
        self.folder.release()

    def finish(self) -> Outcome:
        """End the run: save the LoRA, measure, save the pictures and the summary, and return them.

        A run that was resumed after its last step is only finished. TrainingError if no step was made at all.
        """
        if self.state.step == 0:
            raise TrainingError("no step was made: there is nothing to finish")
        with self.policy:
            self.keep()
            if self.measurements is not None:
                self._measure(self.measurements)
                self._measure_chosen(self.measurements)
                self.keep()
            lora = self.lora()
        pictures = {"curve": self._drawn("curve", self._curve)}
        if self.measurements is not None:
            pictures["grid"] = self._drawn("grid", self._grid)
        for name, picture in pictures.items():
            self.folder.save_picture(name, picture)
        if self.measurements is not None:
            lora.preview = self.measurements.evaluations[self.chosen_step].best_image()
        if lora.preview is not None and self.keeper.lora is not None:
            self.folder.save_preview(self.keeper.lora, lora.preview)
        summary = self._summary()
        self.folder.save_summary(summary.to_dict())
        self.reporter.ended(summary.line(), early=False)
        self.reporter.close()
        return Outcome(lora, list(self.history), pictures["curve"], pictures.get("grid"), summary)

    def _drawn(self, name: str, draw: Callable[[], Tensor]) -> Tensor:
        """The picture that `draw` makes; a blank one, with a warning, where a library cannot."""
        self.reporter.progress(f"drawing the {name}", 0, 0)
        try:
            return draw()
        except Exception as error:  # whatever matplotlib or Pillow raise
            said = in_words(error)
            self.reporter.message(
                f"the {name} could not be drawn ({said}): the run is finished without it", warning=True
            )
            return torch.ones(64, 64, 3)

    def _measure(self, measurements: Measurements) -> None:
        """Evaluate the policy with the weights that are saved, unless this step has been evaluated already."""
        keep = () if self.chosen is None else (self.chosen.step,)
        with self.steering.busy(), self.state.showing():
            evaluation, new = measurements.measure(self.state.step, keep)
        if new:
            self.folder.save_evaluations(measurements.evaluations)  # for whoever looks on
            self.folder.save_measured(self.state.step, evaluation)
            gain, error = paired_gain(measurements.before.total, evaluation.total)
            numbers = {"held_out/reward": mean(evaluation.total), "held_out/gain": gain, "held_out/gain_se": error}
            self.reporter.numbers(self.state.step, finite(numbers))

    def _measure_chosen(self, measurements: Measurements) -> None:
        """Let the guard read the last step, and evaluate the chosen step again if its images are no longer there.

        They are gone if it was evaluated before the run was resumed.
        """
        if self.watch is not None and not self.watch.has_read(self.state.step):
            self._watch()
        chosen = self.chosen
        if chosen is not None and not measurements.has_images(chosen.step):
            with self.steering.busy(), self.state.showing(chosen):
                measurements.replace(chosen.step)

    def _watch(self) -> None:
        """Let the guard measure and act, and record its reading."""
        assert self.watch is not None
        assert self.measurements is not None
        reading = self.watch.check(self.policy, self.state, self.measurements.measure(self.state.step)[0])
        self.kept = self._kept_lora = -1  # the state may have been sent back, and another step may have been chosen
        self._record(reading, self.watch)

    def _record(self, reading: Reading, watch: Watch) -> None:
        self.folder.save_readings(watch.readings)
        numbers = {"guard/held_out": reading.held_out, "guard/drift": reading.drift}
        changes = {f"guard/{name}": change for name, change in reading.changes.items()}
        self.reporter.numbers(reading.step, finite(numbers | changes))
        then = "the run ends here" if watch.stopped else f"back to step {watch.best.step} with half the learning rate"
        for alarm in reading.alarms:
            self.reporter.message(f"guard, step {reading.step}: {alarm}; {then}", warning=True)

    def _curve(self) -> Tensor:
        evaluations = {} if self.measurements is None else self.measurements.evaluations
        guarded = {} if self.watch is None else {"readings": self.watch.readings, "chosen": self.chosen_step}
        return reward_curve(self.history, evaluations, **guarded)

    def _grid(self) -> Tensor:
        assert self.measurements is not None
        return before_after_grid(self.measurements.before, self.measurements.evaluations[self.chosen_step])

    def _summary(self, stopped: str | None = None) -> RunSummary:
        """Of the run as it is. stopped: why it has ended early: it is then compared as it was last measured."""
        measured, watch, chosen = self.measurements, self.watch, self.chosen_step
        pictures = ("curve",) if measured is None or stopped else ("curve", "grid")
        at = chosen if measured is None or chosen in measured.evaluations else max(measured.evaluations)
        return RunSummary.of(
            self.history,
            steps=self.state.step,
            train_seconds=self.steering.clock() - self.started,
            held_out_prompts=len(self.task.prompts.held_out),
            comparison=None if measured is None or not at else Comparison.of(measured.before, measured.evaluations[at]),
            stopped=stopped,
            steered=tuple(self.steered),
            guard=None
            if watch is None
            else GuardSummary.of(watch.readings, stopped=watch.stopped, chosen=chosen, base=watch.base.held_out),
            files={
                "run_folder": str(self.folder.path),
                "lora": str(self.keeper.lora or f"not written: {self.keeper.lora_problem}"),
                **{name: str(self.folder.path / f"{name}.png") for name in pictures},
            },
        )
