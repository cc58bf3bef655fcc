"""The training loop: a generator that yields one StepMetrics a step, so that whoever drives it owns progress, logging and stopping.

    for each step
        for each of its prompts
            rollout: an anchor and K x G branches          no gradient
            decode, score -> rewards (K, G) -> advantages (K, G)
            for each k: paved transitions -> loss_k -> backward at once, so that only one k's graph is alive
        clip, step

Noise and prompt order are functions of (seed, step) alone: a run that is resumed at step n draws what an uninterrupted one draws.
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

from .advantage import zero_spread
from .checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from .config import TrainConfig
from .errors import ConfigError, TrainingError
from .loss import decomposition_loss
from .optim import clip_and_step, learning_rate, make_optimizer
from .pave import paved_transitions
from .rewards.base import RewardMix, require_spread
from .rollout import sample_rollout
from .types import Cond, Decoder, Policy, Rollout, StepMetrics

MAX_SKIPPED_IN_A_ROW = 3


def seeded(seed: int, *progress: int | str) -> torch.Generator:
    """A CPU generator that depends on nothing but (seed, progress)."""
    digest = hashlib.blake2b(repr((seed, *progress)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def prompts_of_step(prompts: Sequence[str], config: TrainConfig, step: int) -> list[str]:
    """The prompts of step `step` (from 0): all prompts in a random order, then all of them in another, and so on."""
    count = config.run.prompts_per_step
    chosen = []
    for position in range(step * count, (step + 1) * count):
        epoch, index = divmod(position, len(prompts))
        order = torch.randperm(len(prompts), generator=seeded(config.run.seed, "order", epoch))
        chosen.append(prompts[int(order[index])])
    return chosen


@dataclass
class TrainState:
    """The mutable state of a run. train() owns it; nobody else writes to it."""

    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int = 0  # steps that are complete
    updates: int = 0  # optimizer steps
    skipped: int = 0
    skipped_in_a_row: int = 0

    @classmethod
    def begin(cls, policy: Policy, config: TrainConfig) -> TrainState:
        """A state at step 0 for a policy with a fresh adapter."""
        parameters = policy.parameters()
        return cls(parameters, make_optimizer(parameters.values(), config.optim))

    def capture(self, recipe: dict[str, object]) -> Checkpoint:
        """A copy of the state on the CPU."""
        counters = {"updates": self.updates, "skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}
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
        with torch.no_grad():
            for name, value in checkpoint.adapter.items():
                self.parameters[name].copy_(value)
        restore_optimizer(self.optimizer, self.parameters, checkpoint.optimizer)
        self.step = checkpoint.step
        self.updates, self.skipped, self.skipped_in_a_row = (checkpoint.counters[key] for key in ("updates", "skipped", "skipped_in_a_row"))


@dataclass
class _Tally:
    """What one step adds up for its StepMetrics."""

    losses: list[Tensor] = field(default_factory=list)  # left on the device until the step's end
    finite_images: bool = True
    groups: int = 0
    zero_spread: int = 0
    totals: list[Tensor] = field(default_factory=list)  # (K, G) each
    scores: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    anchors: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    preview: Tensor | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def loss(self) -> float:
        return torch.stack(self.losses).sum().item() if self.losses else 0.0


def train(
    policy: Policy, decoder: Decoder, reward: RewardMix, conds: Mapping[str, Cond], config: TrainConfig, state: TrainState
) -> Iterator[StepMetrics]:
    """Train until `config.run.iterations` steps are complete. conds: {prompt: policy.encode(prompt)} of the training prompts.

    After each yielded record `state` is complete and may be captured. If the caller's interruption, or an error, comes out of the middle of
    a step, the state is that of the last complete step. TrainingError after three steps in a row without a finite loss and gradient.
    """
    prompts = list(conds)
    if not prompts:
        raise ConfigError("prompts: there are none to train on: write at least one, or keep fewer for evaluation")
    while state.step < config.run.iterations:
        before = state.capture({}) if config.optim.step == "per_step" else None
        tally = _Tally()
        chosen = prompts_of_step(prompts, config, state.step)
        try:
            for slot, prompt in enumerate(chosen):
                generator = seeded(config.run.seed, "noise", state.step, slot)
                with tally.timed("rollout"):
                    rollout = sample_rollout(policy, prompt, conds[prompt], config.rollout, generator)
                advantages = _score(rollout, decoder, reward, config, tally)
                if advantages is None:
                    break
                with tally.timed("update"), torch.enable_grad():
                    _accumulate(policy, rollout, advantages, config, state, tally)
            if state.step == 0 and tally.finite_images:
                require_spread({name: torch.cat(values) for name, values in tally.scores.items()})
            if config.optim.step == "accumulated":
                with tally.timed("update"):
                    _update(config, state, tally)
        except BaseException:
            state.optimizer.zero_grad(set_to_none=True)
            if before is not None:
                state.restore(before)
            raise
        skipped = not tally.finite_images or not all(math.isfinite(value) for value in (tally.loss(), *tally.grad_norms))
        state.step += 1
        state.skipped += skipped
        state.skipped_in_a_row = state.skipped_in_a_row + 1 if skipped else 0
        yield _metrics(state, config, tally, chosen, skipped)
        if state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"step {state.step}: the loss or its gradient was not finite in {state.skipped_in_a_row} steps in a row: "
                "lower learning_rate or eta, or run the model in a wider dtype; the weights before those steps are kept"
            )


def _score(rollout: Rollout, decoder: Decoder, reward: RewardMix, config: TrainConfig, tally: _Tally) -> Tensor | None:
    """Decode and score a rollout's images; its advantages (K, G), or None where the model gave images that are not finite."""
    K, G = rollout.finals.shape[:2]
    with tally.timed("decode"):
        images = decoder.decode(torch.cat([rollout.anchor_final, rollout.finals.flatten(0, 1)]))
    if not images.isfinite().all():
        tally.finite_images = False
        return None
    with tally.timed("reward"):
        scores = reward.score(images, [rollout.prompt] * len(images))
    branch_scores = {name: values[1:].view(K, G) for name, values in scores.items()}
    tally.anchors.append(reward.total(scores)[0].item())
    tally.totals.append(reward.total(branch_scores))
    for name, values in branch_scores.items():
        tally.scores[name].append(values)
    if tally.preview is None:
        tally.preview = images[0]
    return reward.advantages(branch_scores, config.pave.advantage_clip)


def _accumulate(policy: Policy, rollout: Rollout, advantages: Tensor, config: TrainConfig, state: TrainState, tally: _Tally) -> None:
    """Add the gradient of one rollout; in per_step mode also step after each k."""
    idle = zero_spread(advantages)
    share = 1 / (len(rollout.branch_steps) * config.run.prompts_per_step)
    tally.groups += len(idle)
    tally.zero_spread += int(idle.sum())
    for i, k in enumerate(rollout.branch_steps):
        if idle[i]:
            continue
        transitions = paved_transitions(
            lambda x, sigma: policy.velocity(x, sigma, rollout.cond), rollout.starts[i], k, rollout.sigmas, config.rollout.eta, config.pave.segments
        )
        loss = share * decomposition_loss(transitions, rollout.branches[i], advantages[i].to(rollout.branches.device))
        loss.backward()
        tally.losses.append(loss.detach())
        if config.optim.step == "per_step":
            _update(config, state, tally)


def _update(config: TrainConfig, state: TrainState, tally: _Tally) -> None:
    """One optimizer step, unless no group had anything to teach or something was not finite."""
    if not tally.losses or not tally.finite_images or not math.isfinite(tally.loss()):
        state.optimizer.zero_grad(set_to_none=True)
        return
    norm = clip_and_step(state.optimizer, config.optim, state.updates)
    state.updates += math.isfinite(norm)
    tally.grad_norms.append(norm)


def _metrics(state: TrainState, config: TrainConfig, tally: _Tally, prompts: Sequence[str], skipped: bool) -> StepMetrics:
    nothing = torch.full((1, 2), math.nan)  # a step whose images were not finite
    totals = torch.cat(tally.totals) if tally.totals else nothing  # (prompts * K, G)
    scores = {name: torch.cat(values) for name, values in tally.scores.items()}
    return StepMetrics(
        step=state.step,
        loss=tally.loss(),
        reward_mean=totals.mean().item(),
        reward_std=totals.std(-1).mean().item(),
        rewards={name: (values.mean().item(), values.std(-1).mean().item()) for name, values in scores.items()},
        anchor_reward=sum(tally.anchors) / len(tally.anchors) if tally.anchors else math.nan,
        grad_norm=max(tally.grad_norms, default=0.0),
        learning_rate=learning_rate(config.optim, max(state.updates - 1, 0)),
        groups=tally.groups,
        zero_spread_groups=tally.zero_spread,
        skipped=bool(skipped),
        seconds=dict(tally.seconds),
        prompts=tuple(prompts),
        preview=tally.preview,
    )
