"""What goes over the wires of a training graph, and the run behind it.

    Begin -> state -> [ Rollout -> scores -> Advantage -> Decomposition Loss -> Optimizer Step ] -> state -> Finish

A state on a wire names the run and the point it is valid at. The run itself is one object with one owner, StepRun; a node
that changes it checks the state and hands out the next one. So a state that the host's cache replays, or that two nodes
share, is refused and never trains on something else than the graph shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....pave_core.errors import ConfigError
from ....pave_core.runs.run import Run
from ....pave_core.scoring.mix import Scores
from ....pave_core.training.loop import require_progress
from ....pave_core.training.metrics import StepMetrics
from ....pave_core.training.step import TrainingStep
from ....pave_core.types import Rollout
from ..panel.progress import NodeProgress
from ..train import RunResult, finish
from .cache import ticket_of

KEPT_STEPS = 2
"""Steps whose pictures stay in memory behind the newest; the host's cache would keep those of every iteration until the graph has run."""


class StepRun:
    """A run and how far its current step is. `model` is the MODEL that its LoRA will lie on."""

    def __init__(self, run: Run, *, model: ModelPatcher, progress: NodeProgress) -> None:
        if run.config.optim.step == "per_step":
            raise ConfigError(
                "optimizer_step: per_step cannot be drawn as step nodes: set it to accumulated in Pave Optimizer, or use "
                "Pave Train"
            )
        self.run = run
        self.gradients = 0  # losses accumulated in this step
        self._model, self._progress = model, progress
        self._step: TrainingStep | None = None
        self._ticket = ticket_of(progress.node_id)
        self._drawn: list[Drawn] = []
        self._result: tuple[int, RunResult] | None = None
        self._guard = asyncio.get_running_loop().create_task(self._keep_at_the_end())

    def state(self) -> State:
        """The state that is valid now."""
        return State(self, self.run.state.step, self.gradients)

    @property
    def step(self) -> TrainingStep:
        """The current step."""
        if self._step is None:
            run = self.run
            self._step = TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)
        return self._step

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
        """The optimizer's step, and the end of the training step, reported on the node that made it."""
        run, step = self.run, self.step
        self._progress.node_id = node_id
        with run.policy:
            step.update()
            metrics = step.complete()
            self._step, self.gradients = None, 0
            if run.config.run.iterations < metrics.step:
                run.expect(0)  # steps that no loop has announced
            run.after_step(metrics)
        require_progress(run.state)
        return metrics

    def finish(self) -> RunResult:
        """End the run; a second time without another step gives the same again."""
        step = self.run.state.step
        if self._result is None or self._result[0] != step:
            self._result = step, finish(self.run, self._model)
        if self._ticket is not None:
            self._ticket.finished = True
        return self._result[1]

    async def _keep_at_the_end(self) -> None:
        """The host cancels its event loop's tasks when the graph has run, failed or was cancelled: then what is not on
        disk yet is written.
        """
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
                f"state: it was used before (it is of step {self.step}, the run is at step {self.owner.run.state.step}): "
                "each state goes to one node that changes it; wire those nodes one after the other"
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
                f"rollout: it was drawn in step {self.step + 1}, the run is at step {self.owner.run.state.step + 1}: "
                "connect this step's Pave Rollout"
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
