"""One training step.

    sample         a rollout of each of the P prompts: an anchor and K x G branches, without gradient
    decode, score  images -> rewards (P, K, G)
    advantages     rewards -> advantages (P, K, G)
    accumulate     for each prompt and k: paved transitions -> loss_k -> backward, so that one graph is alive at a time
    update         clip the gradient, step the optimizer
    complete       -> StepMetrics

train() calls these in this order, and so does a graph of step nodes. Noise and prompts are functions of (seed, step)
alone: a run that is resumed at step n samples what an uninterrupted one would.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batches import SMALLER, explained
from ..config.train import TrainConfig
from ..flow.paving import paved_transitions
from ..objective.advantage import advantages_of
from ..objective.loss import decomposition_loss, segment_metrics
from ..rollout.branches import sample_rollout
from ..rollout.curriculum import prompts_of_step
from ..rollout.run_batches import RunBatches
from ..scoring.groups import group_std, zero_spread
from ..scoring.mix import RewardMix, Scores, require_spread
from ..seeds import seeded
from ..types import Cond, Decoder, Policy, Rollout
from .metrics import SegmentMetrics, StepMetrics
from .optimizer import clip_and_step
from .state import TrainState

UPDATE_REMEDY = f"set checkpointing to on and recompute_chains in Pave Memory, lower rank, {SMALLER}"


@dataclass(frozen=True)
class _Group:
    """The G branches of one branch step of a rollout."""

    rollout: Rollout
    place: int  # of the branch step in rollout.branch_steps
    advantages: Tensor  # (G,)


class TrainingStep:
    """A training step under way, and the sums for its metrics. conds: {training prompt: policy.encode(prompt)}.

    batches: the run's; None: new ones of the config. `finite`: whether all its images are finite. If one is not,
    nothing is learnt and the step counts as skipped.
    """

    def __init__(
        self,
        policy: Policy,
        decoder: Decoder,
        *,
        conds: Mapping[str, Cond],
        config: TrainConfig,
        state: TrainState,
        batches: RunBatches | None = None,
    ) -> None:
        self._policy, self._decoder, self._conds, self._config, self._state = policy, decoder, conds, config, state
        self._batches = batches or RunBatches.of(config.rollout, config.memory)
        self.prompts = prompts_of_step(list(conds), config, state.step)
        self.finite = True
        self._losses: list[Tensor] = []  # on the device until the step's end
        self._segments: dict[int, list[Tensor]] = defaultdict(list)  # likewise
        self._grad_norms: list[float] = []
        self._groups = self._idle_groups = 0
        self._scores: Scores | None = None  # (P, K, G)
        self._anchor_reward = math.nan
        self._preview: Tensor | None = None
        self._seconds: dict[str, float] = defaultdict(float)

    def sample(self) -> list[Rollout]:
        """Sample a rollout for each prompt; its noise depends on (seed, step, the prompt's place) alone."""
        config, step = self._config, self._state.step
        with self._timed("rollout"):
            return [
                sample_rollout(
                    self._policy,
                    prompt,
                    cond=self._conds[prompt],
                    config=config.rollout,
                    generator=seeded(config.run.seed, "noise", step, place),
                    batches=self._batches.rollout,
                )
                for place, prompt in enumerate(self.prompts)
            ]

    def decode(self, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
        """The images of P rollouts: (P * K * G, H, W, 3) of the branches, and (P, H, W, 3) of the anchors.

        Those of the branches are in the order of a (P, K, G) tensor.
        """
        with self._timed("decode"):
            decoded = [
                self._batches.decode.map(
                    self._decoder.decode, torch.cat([rollout.anchor_final, rollout.finals.flatten(0, 1)])
                )
                for rollout in rollouts
            ]
        images, anchors = torch.cat([each[1:] for each in decoded]), torch.cat([each[:1] for each in decoded])
        self.finite &= bool(images.isfinite().all() and anchors.isfinite().all())
        self._preview = anchors[0] if self.finite else None
        return images, anchors

    def score(self, reward: RewardMix, images: Tensor, anchors: Tensor) -> Scores:
        """The scores (P * K * G,) of the branches; the anchors' go into the metrics. Images as decode() gives them."""
        with self._timed("reward"):
            scores = reward.score(images, [p for p in self.prompts for _ in range(self._config.rollout.images)])
            self._anchor_reward = reward.score(anchors, self.prompts).total().nanmean().item()
        return scores

    def advantages(self, scores: Scores, rollouts: Sequence[Rollout]) -> Tensor:
        """The advantages (P, K, G) from the scores (P * K * G,) of the rollouts' images.

        ConfigError if in the first step of a run no reward tells any two images apart.
        """
        K, G = len(self._config.rollout.branch_steps), self._config.rollout.group_size
        self._scores = scores.view(len(rollouts), K, G)
        if self._state.step == 0:
            require_spread(scores.values)
        return advantages_of(self._scores, self._config.pave.advantage_clip)

    def accumulate(self, rollouts: Sequence[Rollout], advantages: Tensor) -> None:
        """Add the gradient of the rollouts with their advantages (P, K, G); in per_step mode, update() after each k."""
        idle = zero_spread(advantages)
        self._groups += idle.numel()
        self._idle_groups += int(idle.sum())
        groups = [
            _Group(rollout, i, advantages[p, i].to(rollout.branches.device))
            for p, rollout in enumerate(rollouts)
            for i in range(len(rollout.branch_steps))
            if not idle[p, i]
        ]
        if self._config.optim.step == "per_step":
            for group in groups:
                self._add_gradient([group])
                self.update()
        else:
            self._add_gradient(groups)

    def _add_gradient(self, groups: Sequence[_Group]) -> None:
        """Add the gradient of `groups`, computed with a scaled loss where fp16 could not hold it otherwise.

        The scale is halved, for good, when a gradient is not finite with it.
        """
        parameters = list(self._state.parameters.values())
        earlier = [p.grad for p in parameters]
        while True:
            scale = max(self._policy.loss_scale / 2**self._state.scale_halvings, 1.0)
            if scale > 1:
                for p in parameters:
                    p.grad = None
            passed = [self._backward(group, scale) for group in groups]
            if scale == 1 or not _overflows(parameters, [loss for loss, _ in passed]):
                break
            self._state.scale_halvings += 1
            for p, grad in zip(parameters, earlier, strict=True):
                p.grad = grad
        if scale > 1:
            for p, grad in zip(parameters, earlier, strict=True):
                new = None if p.grad is None else p.grad / scale
                p.grad = new if grad is None else grad if new is None else grad + new
        for loss, segments in passed:
            self._losses.append(loss)
            for n, row in segments.items():
                self._segments[n].append(row)

    def _backward(self, group: _Group, scale: float) -> tuple[Tensor, dict[int, Tensor]]:
        """Add the gradient of scale * loss_k; returns loss_k and {n: segment_metrics}, on the device."""
        config, rollout, i = self._config, group.rollout, group.place
        share = 1 / (len(config.rollout.branch_steps) * len(self.prompts))
        with self._timed("update"), explained("the update", UPDATE_REMEDY), torch.enable_grad():
            transitions = paved_transitions(
                lambda x, sigma: self._policy.velocity(x, sigma, [rollout.cond] * len(x)),
                rollout.starts[i],
                k=rollout.branch_steps[i],
                sigmas=rollout.sigmas,
                eta=config.rollout.eta,
                segments=config.pave.segments,
            )
            branches = rollout.branches[i]
            loss = share * decomposition_loss(transitions, branches, group.advantages, config.pave.weights())
            (scale * loss).backward()
            metrics = {n: segment_metrics(p, branches, group.advantages) for n, p in transitions.items()}
        return loss.detach(), metrics

    def update(self) -> None:
        """One optimizer step, unless no group has any spread or something is not finite."""
        state, config = self._state, self._config.optim
        with self._timed("update"):
            if not self._losses or not self.finite or not math.isfinite(self.loss()):
                state.optimizer.zero_grad(set_to_none=True)
                return
            norm = clip_and_step(state.optimizer, config, state.rate(config, state.updates))
        state.updates += math.isfinite(norm)
        self._grad_norms.append(norm)

    def complete(self) -> StepMetrics:
        """End the step: count it in the state, and return its record."""
        state, loss = self._state, self.loss()
        skipped = not self.finite or not all(math.isfinite(value) for value in (loss, *self._grad_norms))
        state.step += 1
        state.skipped += skipped
        state.skipped_in_a_row = state.skipped_in_a_row + 1 if skipped else 0
        return StepMetrics(
            step=state.step,
            loss=loss,
            **_reward_metrics(self._scores),
            anchor_reward=self._anchor_reward,
            grad_norm=max(self._grad_norms, default=0.0),
            learning_rate=state.rate(self._config.optim, max(state.updates - 1, 0)),
            groups=self._groups,
            zero_spread_groups=self._idle_groups,
            skipped=skipped,
            segments=self.segments(),
            seconds=dict(self._seconds),
            prompts=tuple(self.prompts),
            preview=self._preview,
        )

    def loss(self) -> float:
        """The step's loss so far; waits for the device."""
        return torch.stack(self._losses).sum().item() if self._losses else 0.0

    def segments(self) -> dict[int, SegmentMetrics]:
        """{n: means over the branch steps so far}; waits for the device."""
        return {n: SegmentMetrics(*torch.stack(rows).mean(0).tolist()) for n, rows in self._segments.items()}

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Count the time inside as that of `phase`."""
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start


def _overflows(parameters: Sequence[Tensor], losses: Sequence[Tensor]) -> bool:
    """Whether a gradient is not finite although the losses are; waits for the device."""
    if not all(bool(loss.isfinite()) for loss in losses):
        return False
    return any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in parameters)


def _reward_metrics(scores: Scores | None) -> dict[str, Any]:
    """The fields of StepMetrics that describe the scores (P, K, G); None: an image was not finite, none was scored."""
    if scores is None:
        return {"reward_mean": math.nan, "reward_std": 0.0, "rewards": {}, "flat_groups": {}, "unscored": 0}
    totals = scores.total()
    return {
        "reward_mean": totals.nanmean().item(),
        "reward_std": group_std(totals).mean().item(),
        "rewards": {name: (v.nanmean().item(), group_std(v).mean().item()) for name, v in scores.values.items()},
        "flat_groups": {name: int(zero_spread(v).sum()) for name, v in scores.values.items()},
        "unscored": int(torch.stack(list(scores.values.values())).isnan().any(0).sum()),
    }
