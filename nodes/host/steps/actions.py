"""The actions of the step nodes."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ....pave_core.errors import ConfigError
from ....pave_core.pictures.sheets import group_sheet
from ....pave_core.runs.settings import Task
from ....pave_core.scoring.mix import Scores
from ....pave_core.training.metrics import SegmentMetrics, StepMetrics
from .. import train
from ..panel.progress import NodeProgress
from ..policy.settings import PolicySettings, RolloutSettings
from ..train import RunResult
from .tickets import Advantages, Sampled, State, StepRun

logger = logging.getLogger("pave")


def begin(policy: PolicySettings, rollout: RolloutSettings, task: Task, node_id: str | None) -> State:
    """Begin a run, and return its first state."""
    progress = NodeProgress(node_id)
    return StepRun(train.begin(policy, rollout, task, progress), model=policy.model, progress=progress).state()


def sample(state: State) -> Sampled:
    """Sample a rollout for each prompt of the step. ConfigError if the state is of an earlier step.

    No weight changes, so that several nodes may sample from one state.
    """
    owner = state.owner
    if state.step != owner.run.state.step:
        state.check()
    run, step = owner.run, owner.step
    with run.policy:
        rollouts = step.sample()
        images, anchors = step.decode(rollouts)
    if not step.finite:
        logger.warning(
            f"Pave-GRPO step {run.state.step + 1}: the images are not finite; they are scored as black and the step "
            "will be skipped"
        )
        images, anchors = (pictures.nan_to_num(0.0, 0.0, 0.0) for pictures in (images, anchors))
    of_images = [rollout.prompt for rollout in rollouts for _ in range(run.config.rollout.images)]
    sampled = Sampled(owner, run.state.step, rollouts, images, anchors, of_images)
    owner.hold(sampled)
    return sampled


def advantage(sampled: Sampled, scores: Scores) -> Advantages:
    """The advantages of a rollout's images; ConfigError unless there is one score per image."""
    owner = sampled.check()
    for name, values in scores.values.items():
        if len(values) != len(sampled.images):
            P, K, G = sampled.shape
            raise ConfigError(
                f"scores: {name} has {len(values)} for the {len(sampled.images)} images of this rollout ({P} prompts x "
                f"{K} branch steps x {G}): give one number per image, in the order of the image batch"
            )
    step = owner.step
    with torch.inference_mode(False):  # the host runs nodes in inference mode, whose tensors autograd refuses
        scores = replace(scores, values={name: values.clone() for name, values in scores.values.items()})
        values = step.advantages(scores, sampled.rollouts) if step.finite else torch.zeros(sampled.shape)
    return Advantages(sampled, scores.view(*sampled.shape), values)


def accumulate(
    state: State, sampled: Sampled, advantages: Advantages
) -> tuple[State, float, dict[int, SegmentMetrics]]:
    """Add the gradient of a rollout, and return the next state, the step's loss so far and {n: metrics of chain n}.

    ConfigError if state, rollout and advantages do not belong together.
    """
    owner = state.check()
    if sampled.owner is not owner:
        raise ConfigError(
            "rollout: it was sampled by the run of another Pave Begin: connect the Pave Rollout that this state went "
            "into"
        )
    sampled.check()
    if advantages.sampled is not sampled:
        raise ConfigError(
            "advantages: they are of another rollout: connect the Pave Advantage that this rollout went into"
        )
    step = owner.step
    if step.finite:
        with owner.run.policy:
            step.accumulate(sampled.rollouts, advantages.values)
    owner.gradients += 1
    return owner.state(), step.loss(), step.segments()


def optimizer_step(state: State, node_id: str | None) -> tuple[State, StepMetrics]:
    """Step the optimizer on the accumulated gradient, and end the training step. ConfigError if there is none."""
    owner = state.check()
    if not owner.gradients:
        raise ConfigError(
            "state: no gradient was accumulated in this step: put a Pave Decomposition Loss between Pave Rollout and "
            "here"
        )
    metrics = owner.complete(node_id)
    return owner.state(), metrics


def finish(state: State) -> RunResult:
    """End the run. ConfigError if it has made no step, or has a gradient left that no step has used."""
    owner = state.check()
    if owner.run.state.step == 0:
        raise ConfigError(
            "state: no training step was made: put Pave Rollout ... Pave Optimizer Step between Pave Begin and here"
        )
    if owner.gradients:
        raise ConfigError(
            "state: a gradient was accumulated and not used: put a Pave Optimizer Step before Pave Finish"
        )
    return owner.finish()


def sheet(advantages: Advantages, rows: int) -> Tensor:
    """The sheet of Pave Preview Group with at most `rows` groups: (H, W, 3) in [0, 1]."""
    sampled = advantages.sampled
    return group_sheet(
        sampled.images,
        sampled.prompts,
        branch_steps=sampled.owner.run.config.rollout.branch_steps,
        rewards=advantages.scores.total(),
        advantages=advantages.values,
        rows=rows,
    )
