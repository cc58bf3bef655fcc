"""The training loop: a generator of StepMetrics, so that whoever drives it owns progress, logging and stopping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from ..config.train import TrainConfig
from ..errors import NOT_FINITE, ConfigError, TrainingError
from ..rollout.run_batches import RunBatches
from ..scoring.mix import RewardMix
from ..types import Cond, Decoder, Policy, Progress, nobody
from .metrics import StepMetrics
from .processes import ALONE, Processes
from .state import TrainState
from .steering import Steering
from .step import TrainingStep

MAX_SKIPPED_IN_A_ROW = 3


def train(
    policy: Policy,
    decoder: Decoder,
    *,
    reward: RewardMix,
    conds: Mapping[str, Cond],
    config: TrainConfig,
    state: TrainState,
    batches: RunBatches | None = None,
    processes: Processes = ALONE,
    steering: Steering | None = None,
    progress: Progress = nobody,
) -> Iterator[StepMetrics]:
    """Train until `config.run.iterations` steps are complete. conds: {training prompt: policy.encode(prompt)}.

    batches: the run's; None: new ones of the config. processes: those that train together, each by a call of its own.
    steering: the orders to the run. progress: is told how far the step is.
    When a record is yielded, `state` is that after its step and may be captured. If an error or the caller's
    interruption ends a step early, `state` is that of the last complete step. TrainingError after three steps in a row
    without a finite loss and gradient, and where memory runs out.
    """
    made = partial(
        TrainingStep,
        *(policy, decoder),
        **{"conds": conds, "config": config, "state": state, "processes": processes},
        **{"steering": steering, "progress": progress},
        batches=batches or RunBatches.of(config.rollout, config.memory),
    )
    sample_ahead = config.run.sample_ahead
    if sample_ahead and processes.several:
        raise ConfigError("sample_ahead: it is on, and several processes train together: switch it off")
    upcoming: TrainingStep | None = None  # the next step, whose images are there already
    while state.step < config.run.iterations:
        newest = state.weights() if sample_ahead else {}
        step, upcoming = upcoming or made(), None
        with state.step_under_way(config):
            if step.candidates:
                step.choose(step.score(reward, step.sample_candidates(), step.candidates))
            rollouts, images, anchors = step.draw()
            if sample_ahead and step.finite:
                step.put(reward, images, rollouts)
            if sample_ahead and state.step + 1 < config.run.iterations:
                upcoming = made(at=state.step + 1)
                upcoming.draw_ahead()
            if step.finite:
                step.score_anchors(reward, anchors)
                scores = step.score_groups(reward, images, rollouts)
                if config.rollout.contrast:
                    rollouts, images = step.contrast(rollouts, scores)
                    scores = step.score_groups(reward, images, rollouts) if step.finite else scores
                if step.finite:
                    step.accumulate(rollouts, step.advantages(scores, rollouts))
            if config.optim.step == "accumulated":
                step.update()
        metrics = step.complete()
        state.earlier = newest
        yield metrics
        require_progress(state)


def require_progress(state: TrainState) -> None:
    """TrainingError after MAX_SKIPPED_IN_A_ROW skipped steps."""
    if state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise TrainingError(
            f"step {state.step}: the images, the loss or its gradient were not finite in {state.skipped_in_a_row} "
            f"steps in a row: {NOT_FINITE}; else lower learning_rate or eta. The weights before those steps are kept"
        )
