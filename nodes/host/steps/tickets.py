"""The values on the wires of a training graph, and the run behind them.

    Begin -> state -> [ Rollout -> scores -> Advantage -> Decomposition Loss -> Optimizer Step ] -> state -> Finish

A state on a wire names the run, and the point of the run at which it is valid. The run itself is one object with one
owner, StepRun; a node that changes it checks the state and gives out the next one. A state that the host's cache
replays, or that two nodes share, is therefore refused: nothing is trained but what the graph shows.
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
from .. import shutdown
from ..panel.progress import NodeProgress
from ..train import RunResult, finish
from .cache import ticket_of

KEPT_STEPS = 2
"""How many steps before the newest keep their images; the host's cache would keep them all until the graph has run."""


class StepRun:
    """A run that step nodes drive, and how far its current step is. model: the MODEL that gets the LoRA.

    ConfigError for the optimizer's per_step mode.
    """

    def __init__(self, run: Run, *, model: ModelPatcher | None, progress: NodeProgress) -> None:
        if run.config.optim.step == "per_step":
            raise ConfigError(
                "optimizer_step: per_step cannot be built from step nodes: set it to accumulated in Pave Optimizer, or "
                "use Pave Train"
            )
        self.run = run
        self.gradients = 0  # losses accumulated in this step
        self._model, self._progress = model, progress
        self._step: TrainingStep | None = None
        self._ticket = ticket_of(progress.node_id)
        self._held: list[Sampled | Candidates] = []
        self._result: tuple[int, RunResult] | None = None
        self._under_way = shutdown.begun()
        self._saver = asyncio.get_running_loop().create_task(self._keep_at_the_end())

    def state(self) -> State:
        """The state that is valid now."""
        return State(self, self.run.state.step, self.gradients, self.chosen)

    @property
    def chosen(self) -> bool:
        """Whether the prompts of the current step are known."""
        return bool(self.step.prompts)

    @property
    def step(self) -> TrainingStep:
        """The current step."""
        if self._step is None:
            run = self.run
            self._step = TrainingStep(
                run.policy,
                run.decoder,
                conds=run.conds,
                config=run.config,
                state=run.state,
                batches=run.batches,
                steering=run.steering,
                progress=run.within,
            )
        return self._step

    def hold(self, made: Sampled | Candidates) -> None:
        """Remember what was sampled, and free the memory of what no node can need any more.

        That of the first step stays: it is on the graph's own wires, outside every expansion.
        """
        self._held.append(made)
        first = self._held[0].step
        old = [each for each in self._held if first < each.step < made.step - KEPT_STEPS]
        for each in old:
            each.release()
        self._held = [each for each in self._held if each not in old]

    def complete(self, node_id: str | None) -> StepMetrics:
        """Step the optimizer, and end the training step. node_id: the node that shows the progress."""
        run, step = self.run, self.step
        self._progress.node_id = node_id
        with run.policy:
            with run.state.step_under_way(run.config):
                step.update()
            metrics = step.complete()
            self._step, self.gradients = None, 0
            if run.config.run.iterations < metrics.step:
                run.expect(0)  # a step that no loop has announced
            run.after_step(metrics)
        require_progress(run.state)
        return metrics

    def finish(self) -> RunResult:
        """End the run. A second call without a step between gives the same result."""
        step = self.run.state.step
        if self._result is None or self._result[0] != step:
            self._result = step, finish(self.run, self._model)
        if self._ticket is not None:
            self._ticket.finished = True
        return self._result[1]

    async def _keep_at_the_end(self) -> None:
        """Write what is not yet on disk when the graph has run, has failed or was cancelled.

        The host then cancels the tasks of its event loop, this one among them.
        """
        try:
            await asyncio.Event().wait()
        finally:
            try:
                if self._result is None or self._result[0] != self.run.state.step:
                    self.run.stop("ended before Pave Finish")
                else:
                    self.run.close()
            finally:
                shutdown.ended(self._under_way)


@dataclass(frozen=True)
class State:
    """PAVE_STATE: a run, and the point of the run at which this state is valid."""

    owner: StepRun
    step: int  # complete training steps
    gradients: int  # losses accumulated since then
    chosen: bool = True  # whether the prompts of its step are known

    def check(self) -> StepRun:
        """The run. ConfigError if this is no longer its state."""
        if self != self.owner.state():
            raise ConfigError(
                f"state: it was used before (it is of step {self.step}, the run is at step "
                f"{self.owner.run.state.step}): each state goes to one node that changes it; wire those nodes one "
                "after the other"
            )
        return self.owner


@dataclass(frozen=True, eq=False)
class Sampled:
    """PAVE_ROLLOUT: the rollouts of one step, of P prompts, and their images."""

    owner: StepRun
    step: int  # complete training steps when they were sampled
    rollouts: list[Rollout]  # P; empty after release()
    images: Tensor  # (P * K * G, H, W, 3), K groups of G for each prompt
    anchors: Tensor  # (P, H, W, 3)
    prompts: list[str] = field(repr=False)  # P * K * G, one per image
    labels: list[str]  # K, the names of a prompt's groups
    shape: tuple[int, int, int]  # (P, K, G)
    sheets: list[Tensor] = field(default_factory=list, repr=False)  # pictures (1, H, W, 3) that show it

    def check(self) -> StepRun:
        """The run. ConfigError if the rollout is not of its current step."""
        if self.step != self.owner.run.state.step:
            raise ConfigError(
                f"rollout: it was sampled in step {self.step + 1}, the run is at step {self.owner.run.state.step + 1}: "
                "connect this step's Pave Rollout"
            )
        return self.owner

    def release(self) -> None:
        """Free the memory of the latents and pictures, even where they are still referred to."""
        self.rollouts.clear()
        for pictures in (self.images, self.anchors, *self.sheets):
            _empty(pictures)


@dataclass(frozen=True, eq=False)
class Candidates:
    """PAVE_CANDIDATES: one image of each of the B prompts among which a step chooses."""

    owner: StepRun
    step: int  # complete training steps when they were sampled
    images: Tensor  # (B, H, W, 3)
    prompts: list[str]  # B

    def release(self) -> None:
        """Free the memory of the images, even where they are still referred to."""
        _empty(self.images)


@dataclass(frozen=True, eq=False)
class Advantages:
    """PAVE_ADVANTAGES: how much better or worse than its group each image of a rollout is."""

    sampled: Sampled
    scores: Scores  # (P, K, G)
    values: Tensor  # (P, K, G)


def _empty(tensor: Tensor) -> None:
    tensor.set_()  # pyright: ignore[reportCallIssue] - torch takes no arguments here, and frees the tensor's memory
