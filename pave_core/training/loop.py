"""The training loop: a generator that yields one StepMetrics a step, so that whoever drives it owns progress, logging and stopping.

    for each step
        draw          for each of its prompts a rollout: an anchor and K x G branches          no gradient
        decode, score -> rewards (P, K, G) -> advantages (P, K, G)
        accumulate    for each prompt and k: paved transitions -> loss_k -> backward at once, so that only one k's graph is alive
        update        clip, step
        complete      -> StepMetrics

Each line is a function here; train() calls them in this order, and so does a graph of step nodes. Noise and prompt order are functions of
(seed, step) alone: a run that is resumed at step n draws what an uninterrupted one draws.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config.train import OptimConfig, TrainConfig
from ..errors import ConfigError, TrainingError
from ..flow.paving import paved_transitions
from ..objective.advantage import group_std, zero_spread
from ..objective.loss import decomposition_loss, segment_figures
from ..rollout.branches import sample_rollout
from ..runs.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from ..scoring.score import RewardMix, Scores, require_spread
from ..types import Cond, Decoder, Policy, Rollout, SegmentFigures, StepMetrics
from .optimizer import clip_and_step, learning_rate, make_optimizer

MAX_SKIPPED_IN_A_ROW = 3
COUNTERS = ("updates", "skipped", "skipped_in_a_row", "halvings")


def seeded(seed: int, *progress: int | str) -> torch.Generator:
    """A CPU generator that depends on nothing but (seed, progress)."""
    digest = hashlib.blake2b(repr((seed, *progress)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def prompts_of_step(prompts: Sequence[str], config: TrainConfig, step: int) -> list[str]:
    """The prompts of step `step` (from 0): all prompts in a random order, then all of them in another, and so on."""
    if not prompts:
        raise ConfigError("prompts: there are none to train on: write at least one, or keep fewer for evaluation")
    count = config.run.prompts_per_step
    chosen = []
    for position in range(step * count, (step + 1) * count):
        epoch, index = divmod(position, len(prompts))
        order = torch.randperm(len(prompts), generator=seeded(config.run.seed, "order", epoch))
        chosen.append(prompts[int(order[index])])
    return chosen


@dataclass
class TrainState:
    """The mutable state of a run. train() owns it; between two steps a guard may send it back (see return_to)."""

    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int = 0  # steps that are complete
    updates: int = 0  # optimizer steps
    skipped: int = 0
    skipped_in_a_row: int = 0
    halvings: int = 0  # how often the learning rate was halved

    @classmethod
    def begin(cls, policy: Policy, config: TrainConfig) -> TrainState:
        """A state at step 0 for a policy with a fresh adapter."""
        parameters = policy.parameters()
        return cls(parameters, make_optimizer(parameters.values(), config.optim))

    def capture(self, recipe: dict[str, object]) -> Checkpoint:
        """A copy of the state on the CPU."""
        counters = {name: getattr(self, name) for name in COUNTERS}
        adapter = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}
        moments = {name: value.to("cpu", copy=True) for name, value in optimizer_tensors(self.optimizer, self.parameters).items()}
        return Checkpoint(self.step, recipe, adapter, moments, counters)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back (or on) to `checkpoint`, in place. ConfigError if it holds other parameters."""
        shapes = {name: p.shape for name, p in self.parameters.items()}
        if {name: value.shape for name, value in checkpoint.adapter.items()} != shapes:
            raise ConfigError(
                "resume: the checkpoint's adapter has other layers or ranks than this run's: resume with the model and the LoRA settings it had"
            )
        self.return_to(checkpoint)
        self.step = checkpoint.step
        for name in COUNTERS:
            setattr(self, name, checkpoint.counters.get(name, 0))

    def return_to(self, checkpoint: Checkpoint) -> None:
        """Take the weights and the optimizer's moments of an earlier state of this run, and go on counting."""
        with torch.no_grad():
            for name, value in checkpoint.adapter.items():
                self.parameters[name].copy_(value)
        restore_optimizer(self.optimizer, self.parameters, checkpoint.optimizer)

    def rate(self, config: OptimConfig, update: int) -> float:
        """The learning rate of optimizer step `update`, counted from 0."""
        return learning_rate(config, update) / 2**self.halvings


@dataclass
class Tally:
    """What one step adds up for its StepMetrics."""

    prompts: list[str]
    losses: list[Tensor] = field(default_factory=list)  # left on the device until the step's end
    segments: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))  # so are these
    finite_images: bool = True
    groups: int = 0
    zero_spread: int = 0
    scores: Scores | None = None  # (P, K, G)
    anchor_reward: float = math.nan
    grad_norms: list[float] = field(default_factory=list)
    preview: Tensor | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the time inside as that of `phase`."""
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def loss(self) -> float:
        """The step's loss so far; waits for the device."""
        return torch.stack(self.losses).sum().item() if self.losses else 0.0

    def segment_figures(self) -> dict[int, SegmentFigures]:
        """{n: means over the branch steps so far}; waits for the device."""
        return {n: SegmentFigures(*torch.stack(rows).mean(0).tolist()) for n, rows in self.segments.items()}


def train(
    policy: Policy, decoder: Decoder, reward: RewardMix, conds: Mapping[str, Cond], config: TrainConfig, state: TrainState
) -> Iterator[StepMetrics]:
    """Train until `config.run.iterations` steps are complete. conds: {prompt: policy.encode(prompt)} of the training prompts.

    After each yielded record `state` is complete and may be captured. If the caller's interruption, or an error, comes out of the middle of
    a step, the state is that of the last complete step. TrainingError after three steps in a row without a finite loss and gradient.
    """
    while state.step < config.run.iterations:
        before = state.capture({}) if config.optim.step == "per_step" else None
        tally = Tally(prompts_of_step(list(conds), config, state.step))
        try:
            rollouts = draw(policy, conds, config, state.step, tally)
            images, anchors = decode(decoder, rollouts, tally)
            if tally.finite_images:
                with tally.timed("reward"):
                    scores = reward.score(images, [rollout.prompt for rollout in rollouts for _ in range(config.rollout.images)])
                    tally.anchor_reward = reward.score(anchors, tally.prompts).total().nanmean().item()
                advantages = record_scores(scores, rollouts, config, state, tally)
                accumulate(policy, rollouts, advantages, config, state, tally)
            if config.optim.step == "accumulated":
                update(config, state, tally)
        except BaseException:
            state.optimizer.zero_grad(set_to_none=True)
            if before is not None:
                state.restore(before)
            raise
        yield complete(config, state, tally)
        require_progress(state)


def draw(policy: Policy, conds: Mapping[str, Cond], config: TrainConfig, step: int, tally: Tally) -> list[Rollout]:
    """One rollout for each of the tally's prompts; its noise depends on (seed, step, place) alone."""
    with tally.timed("rollout"):
        return [
            sample_rollout(policy, prompt, conds[prompt], config.rollout, seeded(config.run.seed, "noise", step, place))
            for place, prompt in enumerate(tally.prompts)
        ]


def decode(decoder: Decoder, rollouts: Sequence[Rollout], tally: Tally) -> tuple[Tensor, Tensor]:
    """The pictures of P rollouts: of the branches (P * K * G, H, W, 3), prompt by prompt and k by k, and of the anchors (P, H, W, 3).

    Where one is not finite the tally says so, and the step will be skipped.
    """
    with tally.timed("decode"):
        decoded = [decoder.decode(torch.cat([rollout.anchor_final, rollout.finals.flatten(0, 1)])) for rollout in rollouts]
    images, anchors = torch.cat([each[1:] for each in decoded]), torch.cat([each[:1] for each in decoded])
    tally.finite_images &= bool(images.isfinite().all() and anchors.isfinite().all())
    tally.preview = anchors[0] if tally.finite_images else None
    return images, anchors


def record_scores(scores: Scores, rollouts: Sequence[Rollout], config: TrainConfig, state: TrainState, tally: Tally) -> Tensor:
    """The advantages (P, K, G) of the raw scores (P * K * G) of the rollouts' images, which go into the tally.

    ConfigError if in the first step no reward tells any two images apart.
    """
    K, G = len(config.rollout.branch_steps), config.rollout.group_size
    tally.scores = scores.view(len(rollouts), K, G)
    if state.step == 0:
        require_spread(scores.values)
    return tally.scores.advantages(config.pave.advantage_clip)


def accumulate(policy: Policy, rollouts: Sequence[Rollout], advantages: Tensor, config: TrainConfig, state: TrainState, tally: Tally) -> None:
    """Add the gradient of the rollouts with their advantages (P, K, G); in per_step mode also step after each k."""
    idle = zero_spread(advantages)
    share = 1 / (len(config.rollout.branch_steps) * len(tally.prompts))
    weights = config.pave.weights()
    tally.groups += idle.numel()
    tally.zero_spread += int(idle.sum())
    for p, rollout in enumerate(rollouts):
        for i, k in enumerate(rollout.branch_steps):
            if idle[p, i]:
                continue
            with tally.timed("update"), torch.enable_grad():
                transitions = paved_transitions(
                    lambda x, sigma, cond=rollout.cond: policy.velocity(x, sigma, cond),
                    rollout.starts[i],
                    k,
                    rollout.sigmas,
                    config.rollout.eta,
                    config.pave.segments,
                )
                branches, A = rollout.branches[i], advantages[p, i].to(rollout.branches.device)
                loss = share * decomposition_loss(transitions, branches, A, weights)
                loss.backward()
                tally.losses.append(loss.detach())
                for n, transition in transitions.items():
                    tally.segments[n].append(segment_figures(transition, branches, A))
            if config.optim.step == "per_step":
                update(config, state, tally)


def update(config: TrainConfig, state: TrainState, tally: Tally) -> None:
    """One optimizer step, unless no group had anything to teach or something was not finite."""
    with tally.timed("update"):
        if not tally.losses or not tally.finite_images or not math.isfinite(tally.loss()):
            state.optimizer.zero_grad(set_to_none=True)
            return
        norm = clip_and_step(state.optimizer, config.optim, state.rate(config.optim, state.updates))
    state.updates += math.isfinite(norm)
    tally.grad_norms.append(norm)


def complete(config: TrainConfig, state: TrainState, tally: Tally) -> StepMetrics:
    """End the step: `state` counts it, and its record comes back."""
    loss = tally.loss()
    skipped = not tally.finite_images or not all(math.isfinite(value) for value in (loss, *tally.grad_norms))
    state.step += 1
    state.skipped += skipped
    state.skipped_in_a_row = state.skipped_in_a_row + 1 if skipped else 0
    scores = tally.scores or Scores({"none": torch.full((1, 2), math.nan)})  # a step whose images were not finite
    totals = scores.total()
    return StepMetrics(
        step=state.step,
        loss=loss,
        reward_mean=totals.nanmean().item(),
        reward_std=group_std(totals).mean().item(),
        rewards={name: (values.nanmean().item(), group_std(values).mean().item()) for name, values in scores.values.items()} if tally.scores else {},
        flat_groups={name: int(zero_spread(values).sum()) for name, values in scores.values.items()} if tally.scores else {},
        unscored=int(torch.stack(list(scores.values.values())).isnan().any(0).sum()) if tally.scores else 0,
        anchor_reward=tally.anchor_reward,
        grad_norm=max(tally.grad_norms, default=0.0),
        learning_rate=state.rate(config.optim, max(state.updates - 1, 0)),
        groups=tally.groups,
        zero_spread_groups=tally.zero_spread,
        skipped=skipped,
        segments=tally.segment_figures(),
        seconds=dict(tally.seconds),
        prompts=tuple(tally.prompts),
        preview=tally.preview,
    )


def require_progress(state: TrainState) -> None:
    """TrainingError after MAX_SKIPPED_IN_A_ROW skipped steps."""
    if state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise TrainingError(
            f"step {state.step}: the loss or its gradient was not finite in {state.skipped_in_a_row} steps in a row: "
            "lower learning_rate or eta, or run the model in a wider dtype; the weights before those steps are kept"
        )
