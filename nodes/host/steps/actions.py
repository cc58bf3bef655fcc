"""The actions of the step nodes."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ....pave_core.errors import NOT_FINITE, ConfigError
from ....pave_core.pictures.sheets import group_sheet
from ....pave_core.runs.settings import Task
from ....pave_core.scoring.mix import Scores
from ....pave_core.training.metrics import SegmentMetrics, StepMetrics
from ....pave_core.types import Rollout
from .. import train
from ..graphs.settings import DRAWN
from ..panel.progress import NodeProgress
from ..policy.make import AnySettings
from ..policy.settings import RolloutSettings
from ..train import RunResult
from .tickets import Advantages, Candidates, Sampled, State, StepRun

logger = logging.getLogger("pave")


def begin(policy: AnySettings, rollout: RolloutSettings, task: Task, node_id: str | None) -> State:
    """Begin a run, and return its first state."""
    progress = NodeProgress(node_id)
    return StepRun(train.begin(policy, rollout, task, progress), model=policy.model, progress=progress).state()


def sample(state: State) -> Sampled:
    """Sample a rollout for each prompt of the step. ConfigError if the state is of an earlier step.

    No weight changes, so that several nodes may sample from one state.
    """
    owner = state.owner
    if (state.step, state.chosen) != (owner.run.state.step, owner.chosen):
        state.check()
    with owner.run.policy:
        rollouts = owner.step.sample()
        images, anchors = owner.step.decode(rollouts)
    return _sampled(owner, rollouts, images, anchors)


def _sampled(owner: StepRun, rollouts: list[Rollout], images: Tensor, anchors: Tensor) -> Sampled:
    """Rollouts with their images, for the wires; black where they are not finite."""
    run = owner.run
    if not owner.step.finite:
        logger.warning(
            f"Pave-GRPO step {run.state.step + 1}: the images are not finite ({NOT_FINITE}); they are scored as black "
            "and the step will be skipped"
        )
        images, anchors = (pictures.nan_to_num(0.0, 0.0, 0.0) for pictures in (images, anchors))
    with torch.inference_mode(False):  # copies: these are parts of one tensor, which would live as long as its parts
        images, anchors = images.clone(), anchors.clone()
    M, F, G = rollouts[0].finals.shape[:3]
    sampled = Sampled(
        owner,
        run.state.step,
        rollouts,
        images,
        anchors,
        prompts=owner.step.texts(rollouts),
        labels=run.config.rollout.labels(rollouts[0].branch_steps),
        shape=(len(rollouts), M * F, G),
    )
    owner.hold(sampled)
    return sampled


def candidates(state: State) -> Candidates:
    """One image of each prompt among which the step chooses. ConfigError where there is no choice to make."""
    owner = state.check()
    if not owner.step.candidates:
        raise ConfigError(f"candidates: {DRAWN['candidates'][2]}")
    with owner.run.policy:
        images = owner.step.sample_candidates()
    found = Candidates(owner, owner.run.state.step, images, owner.step.candidates)
    owner.hold(found)
    return found


def choose(state: State, among: Candidates, scores: Scores) -> tuple[State, list[str]]:
    """Choose the step's prompts by one score per candidate: the next state, and the prompts.

    ConfigError if the prompts are chosen already, or the candidates are of another step or run.
    """
    owner = state.check()
    if state.chosen:
        raise ConfigError("state: its prompts are chosen already: put one Pave Choose Prompts into a step")
    if among.owner is not owner or among.step != state.step:
        raise ConfigError(
            "candidates: they are of another state: connect the Pave Candidates that this state went into"
        )
    _check_count(scores, len(among.images), f"the {len(among.images)} candidates")
    owner.step.choose(_outside_inference(scores))
    return owner.state(), list(owner.step.prompts)


def contrast(sampled: Sampled, scores: Scores) -> Sampled:
    """The rollout with only the best and the worst images of each group by one score per image, finished.

    ConfigError where config.contrast is 0.
    """
    owner = sampled.check()
    if not owner.run.config.rollout.contrast:
        raise ConfigError(f"contrast: {DRAWN['contrast'][2]}")
    _check_images_count(sampled, scores)
    with owner.run.policy:
        rollouts, images = owner.step.contrast(sampled.rollouts, _outside_inference(scores))
    return _sampled(owner, rollouts, images, sampled.anchors)


def advantage(sampled: Sampled, scores: Scores) -> Advantages:
    """The advantages of a rollout's images; ConfigError unless there is one score per image."""
    owner = sampled.check()
    _check_images_count(sampled, scores)
    step, scores = owner.step, _outside_inference(scores)
    with torch.inference_mode(False):
        values = step.advantages(scores, sampled.rollouts) if step.finite else torch.zeros(sampled.shape)
    return Advantages(sampled, scores.view(*sampled.shape), values)


def _outside_inference(scores: Scores) -> Scores:
    """The same scores: the host runs nodes in inference mode, whose tensors autograd refuses."""
    with torch.inference_mode(False):
        return replace(scores, values={name: values.clone() for name, values in scores.values.items()})


def _check_images_count(sampled: Sampled, scores: Scores) -> None:
    P, K, G = sampled.shape
    _check_count(
        scores,
        len(sampled.images),
        f"the {len(sampled.images)} images of this rollout ({P} prompts x {K} groups x {G})",
    )


def _check_count(scores: Scores, count: int, what: str) -> None:
    """ConfigError unless there are `count` scores of each reward."""
    for name, values in scores.values.items():
        if len(values) != count:
            raise ConfigError(
                f"scores: {name} has {len(values)} for {what}: give one number per image, in the order of the image "
                "batch"
            )


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
            "state: no training step was made: put Pave Rollout ... Pave Optimizer Step between Pave Begin and here; a "
            "loop of 0 iterations finishes a run that is resumed, no new one"
        )
    if owner.gradients:
        raise ConfigError(
            "state: a gradient was accumulated and not used: put a Pave Optimizer Step before Pave Finish"
        )
    return owner.finish()


def sheet(advantages: Advantages, rows: int) -> Tensor:
    """The sheet of Pave Preview Group with at most `rows` groups: (1, H, W, 3) in [0, 1], freed with its rollout."""
    sampled = advantages.sampled
    picture = group_sheet(
        sampled.images,
        sampled.prompts,
        labels=sampled.labels,
        rewards=advantages.scores.total(),
        advantages=advantages.values,
        rows=rows,
    )
    sampled.sheets.append(picture.unsqueeze(0))
    return sampled.sheets[-1]
