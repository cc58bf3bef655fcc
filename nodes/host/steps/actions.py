"""A training run that a graph of nodes drives, one part of a step at a time, and what the host's cache may do with it.

    Begin -> state -> [ Rollout -> scores -> Advantage -> Decomposition Loss -> Optimizer Step ] -> state -> Finish

A state on a wire is a ticket: it names the run and the point it is valid at. The run itself is one object with one owner, StepRun; a node that
changes it checks the ticket and hands out the next one. So a state that the host's cache replays, or that two nodes share, is refused and never
trains on something else than the graph shows.

The cache keys a node's output by its inputs and those of its ancestors. Pave Begin adds a number of its own (see fingerprint): a new one whenever
the run must begin anew, the old one when only what comes after Pave Finish has changed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ....pave_core.errors import ConfigError
from ....pave_core.pictures.sheets import group_sheet
from ....pave_core.scoring.score import Scores
from ....pave_core.training import loop as trainer
from ....pave_core.training.loop import Tally
from ....pave_core.types import Rollout, SegmentFigures, StepMetrics
from ..graphs import graph, queue
from ..train import Run, RunResult

logger = logging.getLogger("pave")

KEPT_STEPS = 2
"""Steps whose pictures stay in memory behind the newest; the host's cache would keep those of every iteration until the graph has run."""


@dataclass
class Ticket:
    """What is known of the last run of a Pave Begin node."""

    number: int
    training: str  # digest of the training part of its graph
    whole: str  # digest of the graph when it last ran
    finished: bool = False


_tickets: dict[str, Ticket] = {}  # by Pave Begin's node id
_serial = itertools.count()


def fingerprint() -> int:
    """The number that Pave Begin's outputs are cached under.

    It is a new one, so that the run begins anew: for a graph that is queued again as it was, after a change in the training part, and after a run
    that did not reach Pave Finish. It stays when only something after Pave Finish has changed.
    """
    found = queue.running()
    if found is None or found[1] not in found[0]:
        return next(_serial)
    prompt, node = found
    training, whole = graph.training_digest(prompt, node), graph.digest(prompt, prompt)
    last = _tickets.get(node)
    if last is not None and last.finished and last.training == training and last.whole != whole:
        last.whole = whole
    else:
        _tickets[node] = Ticket(next(_serial), training, whole)
    return _tickets[node].number


class StepRun:
    """A run and how far its current step is."""

    def __init__(self, run: Run, node_id: str | None) -> None:
        if run.config.optim.step == "per_step":
            raise ConfigError("optimizer_step: per_step can not be drawn as step nodes: set it to accumulated in Pave Optimizer, or use Pave Train")
        self.run = run
        self.gradients = 0  # losses accumulated in this step
        self.tally: Tally | None = None
        self._ticket = _tickets.get(node_id or "")
        self._drawn: list[Drawn] = []
        self._result: tuple[int, RunResult] | None = None
        self._guard = asyncio.get_running_loop().create_task(self._keep_at_the_end())

    def state(self) -> State:
        """The ticket that is valid now."""
        return State(self, self.run.state.step, self.gradients)

    def current_tally(self) -> Tally:
        if self.tally is None:
            self.tally = Tally(trainer.prompts_of_step(list(self.run.conds), self.run.config, self.run.state.step))
        return self.tally

    def hold(self, drawn: Drawn) -> None:
        """Remember a rollout, and free those that no node can need any more.

        Those of the first step stay: the graph's own nodes, outside every expansion, hold them.
        """
        self._drawn.append(drawn)
        first = self._drawn[0].step
        for old in self._drawn:
            if first < old.step < drawn.step - KEPT_STEPS:
                old.release()
        self._drawn = [each for each in self._drawn if each.rollouts]

    def complete(self, node_id: str | None) -> StepMetrics:
        """The optimizer's step, and the end of the training step."""
        run, tally = self.run, self.current_tally()
        with run.active():
            trainer.update(run.config, run.state, tally)
            metrics = trainer.complete(run.config, run.state, tally)
            self.tally, self.gradients = None, 0
            if run.config.run.iterations < metrics.step:
                run.expect(0)  # steps that no loop has announced
            run.after_step(metrics, node_id)
        trainer.require_progress(run.state)
        return metrics

    def finish(self) -> RunResult:
        step = self.run.state.step
        if self._result is None or self._result[0] != step:
            self._result = step, self.run.finish()
        if self._ticket is not None:
            self._ticket.finished = True
        return self._result[1]

    async def _keep_at_the_end(self) -> None:
        """The host cancels its event loop's tasks when the graph has run, failed or was cancelled: then what is not on disk yet is written."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._result is None or self._result[0] != self.run.state.step:
                self.run.stop("ended before Pave Finish")


@dataclass(frozen=True)
class State:
    """PAVE_STATE: a run, and the point of it that this wire stands for."""

    owner: StepRun
    step: int
    gradients: int

    def check(self) -> StepRun:
        """The run, if this is still its state."""
        if (self.step, self.gradients) != (self.owner.run.state.step, self.owner.gradients):
            raise ConfigError(
                f"state: it was used before (it is of step {self.step}, the run is at step {self.owner.run.state.step}): each state goes to one node "
                "that changes it; wire those nodes one after the other"
            )
        return self.owner


@dataclass(frozen=True, eq=False)
class Drawn:
    """PAVE_ROLLOUT: the rollouts of one step, P prompts with K x G branches each, and their pictures."""

    owner: StepRun
    step: int
    rollouts: list[Rollout]
    images: Tensor  # (P * K * G, H, W, 3)
    anchors: Tensor  # (P, H, W, 3)
    prompts: list[str] = field(repr=False)  # P * K * G

    @property
    def shape(self) -> tuple[int, int, int]:
        """P, K, G."""
        config = self.owner.run.config.rollout
        return len(self.images) // config.images, len(config.branch_steps), config.group_size

    def check(self) -> StepRun:
        """The run, if the rollout is of its current step."""
        if self.step != self.owner.run.state.step:
            raise ConfigError(
                f"rollout: it was drawn in step {self.step + 1}, the run is at step {self.owner.run.state.step + 1}: connect this step's Pave Rollout"
            )
        return self.owner

    def release(self) -> None:
        """Free the latents and the pictures, wherever they are still referred to."""
        self.rollouts.clear()
        for pictures in (self.images, self.anchors):
            pictures.set_()  # pyright: ignore[reportCallIssue] - torch takes no arguments here, and empties the tensor


@dataclass(frozen=True, eq=False)
class Advantages:
    """PAVE_ADVANTAGES: how much better than its group each image of a rollout is."""

    drawn: Drawn
    scores: Scores  # (P, K, G)
    values: Tensor  # (P, K, G)


def draw(state: State) -> Drawn:
    """One rollout for each prompt of the step. It changes no weight, so that several nodes may draw from one state."""
    owner = state.owner
    if state.step != owner.run.state.step:
        state.check()
    run, tally = owner.run, owner.current_tally()
    with run.active():
        rollouts = trainer.draw(run.policy, run.conds, run.config, run.state.step, tally)
        images, anchors = trainer.decode(run.decoder, rollouts, tally)
    if not tally.finite_images:
        logger.warning(f"Pave-GRPO step {run.state.step + 1}: the images are not finite; they are scored as black and the step will be skipped")
        images, anchors = (pictures.nan_to_num(0.0, 0.0, 0.0) for pictures in (images, anchors))
    of_images = [rollout.prompt for rollout in rollouts for _ in range(run.config.rollout.images)]
    drawn = Drawn(owner, run.state.step, rollouts, images, anchors, of_images)
    owner.hold(drawn)
    return drawn


def advantage(drawn: Drawn, scores: Scores) -> Advantages:
    """The advantages of a rollout's images; ConfigError unless there is one score an image."""
    owner = drawn.check()
    for name, values in scores.values.items():
        if len(values) != len(drawn.images):
            P, K, G = drawn.shape
            raise ConfigError(
                f"scores: {name} has {len(values)} for the {len(drawn.images)} images of this rollout ({P} prompts x {K} branch steps x {G}): give "
                "one number an image, in the order of the image batch"
            )
    tally = owner.current_tally()
    with torch.inference_mode(False):  # nodes run in inference mode, whose tensors autograd refuses
        scores = replace(scores, values={name: values.clone() for name, values in scores.values.items()})
        if tally.finite_images:
            values = trainer.record_scores(scores, drawn.rollouts, owner.run.config, owner.run.state, tally)
        else:
            values = torch.zeros(drawn.shape)
    return Advantages(drawn, scores.view(*drawn.shape), values)


def accumulate(state: State, drawn: Drawn, advantages: Advantages) -> tuple[State, float, dict[int, SegmentFigures]]:
    """Add the gradient of a rollout; the next state, the step's loss so far and {n: figures of chain n}."""
    owner = state.check()
    if drawn.owner is not owner:
        raise ConfigError("rollout: it was drawn by the run of another Pave Begin: connect the Pave Rollout that this state went into")
    drawn.check()
    if advantages.drawn is not drawn:
        raise ConfigError("advantages: they are of another rollout: connect the Pave Advantage that this rollout went into")
    run, tally = owner.run, owner.current_tally()
    if tally.finite_images:
        with run.active():
            trainer.accumulate(run.policy, drawn.rollouts, advantages.values, run.config, run.state, tally)
    owner.gradients += 1
    return owner.state(), tally.loss(), tally.segment_figures()


def optimizer_step(state: State, node_id: str | None) -> tuple[State, StepMetrics]:
    """Move the adapter by what was accumulated."""
    owner = state.check()
    if not owner.gradients:
        raise ConfigError("state: no gradient was accumulated in this step: put a Pave Decomposition Loss between Pave Rollout and here")
    metrics = owner.complete(node_id)
    return owner.state(), metrics


def finish(state: State) -> RunResult:
    """End the run."""
    owner = state.check()
    if owner.run.state.step == 0:
        raise ConfigError("state: no training step was made: put Pave Rollout ... Pave Optimizer Step between Pave Begin and here")
    if owner.gradients:
        raise ConfigError("state: a gradient was accumulated and not used: put a Pave Optimizer Step before Pave Finish")
    return owner.finish()


def sheet(advantages: Advantages, rows: int) -> Tensor:
    """The picture of Pave Preview Group, (H, W, 3)."""
    drawn = advantages.drawn
    branch_steps = drawn.owner.run.config.rollout.branch_steps
    return group_sheet(drawn.images, drawn.prompts, branch_steps, advantages.scores.total(), advantages.values, rows)
