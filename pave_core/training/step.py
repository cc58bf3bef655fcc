"""One training step.

    choose         with candidates: the prompts nearest the running mean of their scores (AdaGRPO)
    sample         a rollout of each of the P prompts, without gradient
    decode, score  images -> rewards (P, M F, G): F groups of G images on M tails; see Rollout
    contrast       with contrast: only the best and the worst of each group, finished on the schedule's steps
    advantages     rewards -> advantages (P, M F, G)
    accumulate     paved transitions of all prompts and branch steps in lock-step -> loss -> gradient
    update         clip the gradient, step the optimizer; again with the same rollouts where the settings say so
    complete       -> StepMetrics

train() calls these in this order, and so does a graph of step nodes. Noise and prompts are functions of (seed, step)
alone: a run that is resumed at step n samples what an uninterrupted one would.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ..config.train import TrainConfig
from ..errors import ConfigError
from ..images import eight_bit
from ..memory.peak import peak_gb
from ..memory.work import Work
from ..objective.advantage import advantages_of, global_advantages
from ..rollout.curriculum import RunningStats, candidates_of_step, nearest, prompts_of_step, window
from ..rollout.run_batches import RunBatches
from ..rollout.sample import contrasted, sample_anchors, sample_rollouts
from ..scoring.groups import group_std, zero_spread
from ..scoring.mix import RewardMix, Scores, require_spread
from ..seeds import seeded
from ..types import Cond, Decoder, Groups, Policy, Progress, Rollout, nobody
from .gradient import Observed, PolicyGradient, observed_at
from .metrics import Group, SegmentMetrics, StepMetrics
from .optimizer import clip_and_step
from .processes import ALONE, Processes
from .state import TrainState
from .steering import Steering

NOT_CHOSEN = (
    "the prompts of this step have not been chosen: put Pave Candidates, a score and Pave Choose Prompts before Pave "
    "Rollout, or set candidates to 0"
)
NOT_NARROWED = (
    "the groups have not been narrowed to {} images: put Pave Contrast and a second score between Pave Rollout and "
    "Pave Advantage, or set contrast to 0"
)


class TrainingStep:
    """A training step under way, and the sums for its metrics. conds: {training prompt: policy.encode(prompt)}.

    batches: the run's; None: new ones of the config. processes: those that share it out; its rollouts and images are
    this one's, its scores, advantages and metrics those of all. steering: the run's orders. progress: is told how many
    velocities, images and rewards of a phase are done. at: how many steps are complete before it; None: those of the
    state. `finite`: whether all its images are finite. If one is not, nothing is learnt and the step counts as skipped.
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
        processes: Processes = ALONE,
        steering: Steering | None = None,
        progress: Progress = nobody,
        at: int | None = None,
    ) -> None:
        self._processes = processes
        self._steering, self._progress = steering or Steering(), progress
        work = Work(config)
        whole = {"rollout": work.sampled, "decode": work.decoded, "update": work.updated + work.compared}
        self._whole = {} if processes.several else whole  # of each phase in this process, where that is known
        self._done: dict[str, int] = defaultdict(int)
        self._policy, self._decoder, self._conds, self._config, self._state = policy, decoder, conds, config, state
        self._batches = batches or RunBatches.of(config.rollout, config.memory)
        self._at = at = state.step if at is None else at
        self.candidates = candidates_of_step(list(conds), config, at)  # B; none: the prompts come in turn
        self.prompts = [] if self.candidates else prompts_of_step(list(conds), config, at)
        self.finite = True
        self._running = state.running  # of the candidates' scores
        self._drawn: tuple[list[Rollout], Tensor, Tensor] | None = None
        self._old: dict[tuple[int, int], list[Observed]] = {}  # (prompt, branch step) -> observed by the earlier policy
        self._gradient: PolicyGradient | None = None
        self._observed: list[Observed] = []
        self._losses: list[Tensor] = []  # on the device until the step's end
        self._segments: dict[int, list[Tensor]] = defaultdict(list)  # likewise
        self._grad_norms: list[float] = []
        self._groups = self._idle_groups = 0
        self._scores: Scores | None = None  # (P, M F, G)
        self._anchor_reward = math.nan
        self._preview: Tensor | None = None
        self._shown: tuple[Rollout, Tensor] | None = None  # the first rollout that was decoded last, its first group
        self._group: Group | None = None
        self._seconds: dict[str, float] = defaultdict(float)

    def sample_candidates(self) -> Tensor:
        """An image of each of the B candidates: (B, H, W, 3); black where it is not finite."""
        config, step = self._config, self._at
        generators = [seeded(config.run.seed, "candidate", step, i) for i in range(len(self.candidates))]
        with self._timed("rollout"):
            finals = sample_anchors(
                self._counted("rollout"),
                [self._conds[prompt] for prompt in self.candidates],
                generators=generators,
                steps=config.rollout.steps,
                batches=self._batches.rollout,
            )
        return self._decoded(finals).nan_to_num(0.0, 0.0, 0.0)

    def choose(self, scores: Scores) -> None:
        """Choose the step's prompts by the scores (B,) of the candidates' images."""
        totals, running = self._processes.first(scores.total()), self._state.running
        self._running = RunningStats.of(totals) if running is None else running.updated(totals)
        places = nearest(totals, self._running.mean, self._config.run.prompts_per_step)
        self.prompts = [self.candidates[place] for place in places]

    def sample(self) -> list[Rollout]:
        """Sample a rollout for each prompt; its noise depends on (seed, step, the prompt's place) alone.

        ConfigError where the prompts have still to be chosen among the candidates.
        """
        config, step = self._config, self._at
        if not self.prompts:
            raise ConfigError(f"candidates: {NOT_CHOSEN}")
        rollout = config.rollout
        prompts, places = self._processes.prompts(self.prompts), self._processes.prompts(range(len(self.prompts)))
        with self._timed("rollout"):
            return sample_rollouts(
                self._counted("rollout"),
                prompts,
                conds=[self._conds[prompt] for prompt in prompts],
                config=rollout,
                generators=[seeded(config.run.seed, "noise", step, place) for place in places],
                images=self._processes.images(rollout.group_size),
                branch_steps=window(
                    rollout.branch_steps,
                    step,
                    every=rollout.window_every,
                    stride=rollout.window_stride,
                    steps=rollout.steps,
                ),
                batches=self._batches.rollout,
            )

    def draw(self) -> tuple[list[Rollout], Tensor, Tensor]:
        """The rollouts, and the images of their groups and of the anchors (see decode): those that were drawn ahead, or
        new ones by the weights that the state says draw them.
        """
        if self._drawn is None:
            with self._state.drawing():
                return self._draw(off_policy=bool(self._state.earlier))
        return self._drawn

    def draw_ahead(self) -> None:
        """Draw what draw() gives by the weights as they are, before the update of the step before."""
        self._draw(off_policy=True)

    def _draw(self, *, off_policy: bool) -> tuple[list[Rollout], Tensor, Tensor]:
        rollouts = self.sample()
        self._drawn = drawn = rollouts, *self.decode(rollouts)
        if off_policy and self.finite:
            self._remember(rollouts)
        return drawn

    def _remember(self, rollouts: Sequence[Rollout]) -> None:
        """Remember the policy that drew: another one learns from it."""
        for p, rollout in enumerate(rollouts):
            for place in range(len(rollout.branch_steps)):
                nothing = torch.zeros(rollout.branches.shape[1])
                self._old[p, place] = observed_at(rollout, place, advantages=nothing, share=0.0)
        with self._timed("rollout"):
            self._gradient_of(rollouts, "rollout").remember(
                [each for observed in self._old.values() for each in observed]
            )

    def decode(self, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
        """The images of P rollouts: (P * M * F * G, H, W, 3) of their groups, and (P, H, W, 3) of the anchors.

        Those of the groups are in the order of a (P, M, F, G) tensor.
        """
        anchors = [rollout.anchor_final for rollout in rollouts]
        decoded = self._decoded(torch.cat([*anchors, *(rollout.finals.flatten(0, 2) for rollout in rollouts)]))
        images, anchors = decoded[len(rollouts) :], decoded[: len(rollouts)]
        self._preview = anchors[0] if self.finite else None
        self._show(images, rollouts)
        return images, anchors

    def _show(self, images: Tensor, rollouts: Sequence[Rollout]) -> None:
        """Keep the images of the first group until their advantages are known, for whoever looks on."""
        if self.finite and not self._processes.several:  # of several, none has them all
            self._shown = rollouts[0], images[: rollouts[0].finals.shape[2], ..., :3]

    def _decoded(self, latents: Tensor) -> Tensor:
        """Latents (N, *S) -> images (N, H, W, 3)."""
        with self._timed("decode"):
            images = self._batches.decode.map(self._decode, latents)
        self.finite &= self._processes.all(bool(images.isfinite().all()))
        return images

    def _decode(self, latents: Tensor) -> Tensor:
        images = self._decoder.decode(latents)
        self._tell("decode", len(latents))
        return images

    def texts(self, rollouts: Sequence[Rollout]) -> list[str]:
        """The prompt of each image, in the order of decode()."""
        return [rollout.prompt for rollout in rollouts for _ in range(rollout.images)]

    def score(
        self, reward: RewardMix, images: Tensor, prompts: Sequence[str], *, groups: Groups | None = None
    ) -> Scores:
        """The scores (N,) of N images with N prompts. groups: as of RewardMix.score(): None asks nobody."""
        with self._timed("reward"):
            return reward.score(images, prompts, groups=groups, told=partial(self._progress, "reward"))

    def score_groups(self, reward: RewardMix, images: Tensor, rollouts: Sequence[Rollout]) -> Scores:
        """The scores (N,) of the rollouts' images, in the order of decode(): a person is asked about them.

        With contrast, a person is asked twice: about the whole groups, of which the best and the worst are kept, and
        about these as they are finished, since the second scores are those that are trained on.
        """
        return self.score(reward, images, self.texts(rollouts), groups=self._groups_of(rollouts))

    def put(self, reward: RewardMix, images: Tensor, rollouts: Sequence[Rollout]) -> None:
        """Show a person already what score_groups() will ask."""
        reward.put(images, self.texts(rollouts), self._groups_of(rollouts))

    def _groups_of(self, rollouts: Sequence[Rollout]) -> Groups:
        return Groups(rollouts[0].finals.shape[2], self._at + 1, self._config.run.seed)

    def score_anchors(self, reward: RewardMix, anchors: Tensor) -> None:
        """Score the anchors (P, H, W, 3) for the metrics: nothing is trained on them."""
        totals = self.score(reward, anchors, self._processes.prompts(self.prompts)).total()
        self._anchor_reward = self._processes.anchors(totals).nanmean().item()

    def contrast(self, rollouts: Sequence[Rollout], scores: Scores) -> tuple[list[Rollout], Tensor]:
        """The rollouts with the best and the worst images of each group by the scores, and these images, finished.

        scores: (P * F * G,) of the rollouts' images. Returns rollouts with config.contrast images in a group, and
        their images (P * F * c, H, W, 3). These are what is scored again, and trained on.
        """
        half = self._config.rollout.contrast // 2
        self._scores = self._grouped(scores, rollouts)
        order = advantages_of(self._scores, math.inf).argsort(dim=-1, stable=True)  # clamped ones would be equal
        kept = torch.cat([order[..., :half], order[..., -half:]], -1).sort(-1).values
        kept = torch.stack(list(self._processes.prompts(kept.unbind())))
        with self._timed("rollout"):
            rollouts = contrasted(
                self._counted("rollout"), rollouts, kept, config=self._config.rollout, batches=self._batches.rollout
            )
        images = self._decoded(torch.cat([rollout.finals.flatten(0, 2) for rollout in rollouts]))
        self._show(images, rollouts)
        return rollouts, images

    def advantages(self, scores: Scores, rollouts: Sequence[Rollout]) -> Tensor:
        """The advantages (P, M F, G) from the scores (P * M * F * G,) of the rollouts' images.

        An image on several tails has the sum of its advantages, which is given for each of them. ConfigError if in the
        first step of a run no reward tells any two images apart, and nobody was asked.
        """
        config = self._config
        grouped = self._grouped(scores, rollouts)
        if not config.rollout.contrast:
            self._scores = grouped
        if self._state.step == 0 and not scores.asked:
            require_spread({name: values.flatten() for name, values in grouped.values.items()})
        found = advantages_of(grouped, config.pave.advantage_clip)
        if config.pave.global_advantage and self._running is not None:
            found = found + global_advantages(grouped.total(), self._running, config.pave.advantage_clip)
        M = config.rollout.tails
        found = found.unflatten(1, (M, -1)).sum(1, keepdim=True).expand(-1, M, -1, -1).flatten(1, 2)
        if self._shown is not None and self._shown[0] is rollouts[0]:  # in a graph, others may be decoded meanwhile
            images = torch.from_numpy(eight_bit(self._shown[1]))
            of_group = {name: tuple(values[0, 0].tolist()) for name, values in grouped.values.items()}
            self._group = Group(rollouts[0].prompt, images, of_group, tuple(found[0, 0].tolist()))
            self._shown = None
        return found

    def _grouped(self, scores: Scores, rollouts: Sequence[Rollout]) -> Scores:
        """Scores of the rollouts' images, and of those of other processes, as (P, M F, G)."""
        M, F, G = rollouts[0].finals.shape[:3]
        own = scores.view(len(rollouts), M * F, G)
        with self._exchange():
            return replace(own, values=self._processes.scores(own.values))

    def accumulate(self, rollouts: Sequence[Rollout], advantages: Tensor) -> None:
        """Add the gradient of the rollouts with their advantages (P, M F, G); in per_step mode, update() after each k.

        ConfigError for rollouts whose groups have still to be narrowed to config.contrast images.
        """
        contrast, F = self._config.rollout.contrast, rollouts[0].finals.shape[1]
        if contrast and rollouts[0].branches.shape[1] != contrast:
            raise ConfigError(f"contrast: {NOT_NARROWED.format(contrast)}")
        with self._exchange():
            rollouts = self._processes.whole(rollouts)
        advantages = advantages[:, :F]  # the same for each tail
        weights = self._config.pave.step_weights or (1.0,) * len(rollouts[0].branch_steps)
        parts = len(weights) * len(advantages)
        idle = zero_spread(advantages)
        self._groups += idle.numel()
        self._idle_groups += int(idle.sum())
        own, idle = self._processes.prompts(advantages.unbind()), self._processes.prompts(idle.unbind())
        of_steps = []
        for p, rollout in enumerate(rollouts):
            for place, weight in enumerate(weights):
                if weight and not idle[p][place % F]:
                    observed = observed_at(rollout, place, advantages=own[p][place % F], share=weight / parts)
                    for each, earlier in zip(observed, self._old.get((p, place), ())):
                        each.old = earlier.old
                    of_steps.append(observed)
        self._gradient = self._gradient_of(rollouts)
        if self._config.optim.step == "per_step":
            for observed in of_steps:
                self._add_gradient(observed)
                self.update()
        else:
            observed = self._processes.shared([each for of_step in of_steps for each in of_step])
            self._observed += observed
            self._add_gradient(observed)

    def _gradient_of(self, rollouts: Sequence[Rollout], phase: str = "update") -> PolicyGradient:
        return PolicyGradient(
            self._counted(phase),
            self._state,
            config=self._config,
            sigmas=rollouts[0].sigmas,
            batches=self._batches.update,
            steering=self._steering,
        )

    def _add_gradient(self, observed: Sequence[Observed]) -> None:
        """Add the gradient of some observed steps, and remember the loss and metrics."""
        if not observed or self._gradient is None:
            return
        with self._timed("update"):
            loss, segments = self._gradient.add(observed)
        self._losses.append(loss)
        for n, metrics in segments.items():
            self._segments[n].append(metrics)

    def update(self) -> None:
        """Step the optimizer, unless no group has any spread or something is not finite.

        With updates_per_rollout, compute the gradient of the same rollouts again, and step again.
        """
        stepped = self._step_optimizer()
        for _ in range(1, self._config.pave.updates_per_rollout):
            if stepped:
                self._losses.clear()
                self._segments.clear()
                self._add_gradient(self._observed)
                stepped = self._step_optimizer()

    def _step_optimizer(self) -> bool:
        """One step of the optimizer; whether it was made."""
        state, config = self._state, self._config.optim
        if self.finite:
            with self._exchange():
                self._losses = self._processes.summed(list(state.parameters.values()), self._losses)
        with self._timed("optimizer"):
            if not self._losses or not self.finite or not math.isfinite(self.loss()):
                state.optimizer.zero_grad(set_to_none=True)
                return False
            norm = clip_and_step(state.optimizer, config, state.rate(config, state.updates))
            if math.isfinite(norm):
                state.updates += 1
                state.follow(config.ema_decay)
        self._grad_norms.append(norm)
        return math.isfinite(norm)

    def complete(self) -> StepMetrics:
        """End the step: count it in the state, and return its record."""
        state, loss = self._state, self.loss()
        skipped = not self.finite or not all(math.isfinite(value) for value in (loss, *self._grad_norms))
        state.step += 1
        state.running = self._running if self.finite else state.running
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
            memory=peak_gb(self._policy.device),
            group=self._group,
        )

    def loss(self) -> float:
        """The step's loss so far; waits for the device."""
        return torch.stack(self._losses).sum().item() if self._losses else 0.0

    def segments(self) -> dict[int, SegmentMetrics]:
        """{n: means over the branch steps so far}; waits for the device."""
        own = {n: torch.cat(rows) for n, rows in self._segments.items()}
        with self._exchange():
            rows_of = self._processes.rows(own, tuple(self._config.pave.weights()))
        return {n: SegmentMetrics(*rows.mean(0).tolist()) for n, rows in rows_of.items()}

    def _exchange(self) -> AbstractContextManager[None]:
        """The phase in which processes tell each other something; none where there is one."""
        return self._timed("exchange") if self._processes.several else nullcontext()

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Count the time inside as that of `phase`, but for what is ordered meanwhile."""
        self._tell(phase)
        start = self._steering.clock()
        yield
        self._seconds[phase] += self._steering.clock() - start

    def _tell(self, phase: str, done: int = 0) -> None:
        """Tell that so much more of `phase` is done. What was computed again, as memory had run out, is not counted."""
        self._done[phase] += done
        whole = self._whole.get(phase, 0)
        self._progress(phase, min(self._done[phase], whole), whole)

    def _counted(self, phase: str) -> Policy:
        """The policy, whose velocities are counted as done of `phase`."""
        return cast(Policy, _Counted(self._policy, lambda done: self._tell(phase, done)))


class _Counted:
    """A policy that tells how many velocities it gives."""

    def __init__(self, policy: Policy, tell: Callable[[int], None]) -> None:
        self._policy, self._tell = policy, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def velocity(self, x: Tensor, sigma: Tensor, conds: Sequence[Cond]) -> Tensor:
        """As the policy's."""
        v = self._policy.velocity(x, sigma, conds)
        self._tell(len(x))
        return v


def _reward_metrics(scores: Scores | None) -> dict[str, Any]:
    """The fields of StepMetrics about the scores (P, M F, G); None: an image was not finite, none was scored."""
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
