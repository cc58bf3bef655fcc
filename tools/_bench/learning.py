"""One run of an experiment on the bundled model, evaluated before, along and after. In a process with one thread.

Evaluation is on held-out prompts and seeds, sampled with as many steps as the quickstart generates with, whatever T is
in training: by adherence, as the shape classifier sees it, which nothing trains on, and by

    reward = mean_j (r_j - m_j) / s_j        m_j, s_j: mean and std of reward j over the base model's images

Seconds are those of the processor in training steps alone, so that other programs on the machine do not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from _cuda.host import pack_module

from .experiments import EXPERIMENTS, REWARDS
from .jobs import Job, OutOfTime
from .machine import machine
from .subject import Subject, bundled, captions, clip_score, encoded, mix, preference, shapes, tiny

RolloutConfig = pack_module("pave_core.config.rollout").RolloutConfig
evaluate = pack_module("pave_core.evaluation.evaluate").evaluate
split_prompts = pack_module("pave_core.rollout.prompts").split_prompts
train = pack_module("pave_core.training.loop").train
TrainConfig = pack_module("pave_core.config.train").TrainConfig
TrainState = pack_module("pave_core.training.state").TrainState

HELD_OUT = 0.2
SPLIT_SEED = 0
STEPS = 16
"""Denoising steps of an evaluated image: those of the quickstart's KSampler."""
SEEDS, SEEDS_ALONG = 16, 6
"""Noises a prompt: after training, and along the way."""
POINTS = 4
"""Evaluations along a run, the last of them at its end."""


class Laboratory:
    """What the runs of a process share: models, rewards, the base model's evaluation.

    deadline: by time.time(); a run that is not done by then is given up. scale: of the images of a run.
    """

    def __init__(self, deadline: float | None = None, scale: float = 1.0) -> None:
        self._subject: Subject = replace(bundled(), reward=learning_reward())
        self._judge = shapes.Adherence(tiny.SHAPE_CLASSIFIER)
        self._prompts = split_prompts(captions(), HELD_OUT, SPLIT_SEED)
        self.deadline, self._scale = deadline, scale
        torch.set_num_threads(1)
        self._machine = machine()
        self._standard: Standard | None = None
        self._before: dict[str, Any] = {}

    def about(self, job: Job) -> dict[str, Any]:
        """What else a record is known by."""
        digest = EXPERIMENTS[job.experiment].digest(TrainConfig(), self._scale)
        return {"digest": digest, "scale": self._scale, "machine": self._machine}

    def run(self, job: Job) -> dict[str, Any]:
        """The record of a run. OutOfTime if the deadline passes."""
        config = EXPERIMENTS[job.experiment].config(
            TrainConfig(), seed=job.seed, learning_rate=job.learning_rate, scale=self._scale
        )
        started = time.process_time()
        with torch.inference_mode(), self._subject.policy(config) as policy:
            run = _Run(policy, self._subject, self._judge, self._prompts, config)
            if self._standard is None:
                base = run.evaluated(SEEDS)  # the adapter is fresh: the base model
                self._standard = Standard(base.scores)
                self._before = self._standard.means(base)
            curve, skipped = self._trained(run, self._standard, every=None if job.search else POINTS)
            after = self._standard.means(run.evaluated(SEEDS_ALONG if job.search else SEEDS))
        return {
            **asdict(job),
            **self.about(job),
            "steps": config.run.iterations,
            "images": run.images,
            "seconds": run.seconds,
            "whole_seconds": time.process_time() - started,
            "skipped": skipped,
            "before": self._before["along" if job.search else "all"],
            "after": after["all"],
            "curve": [[0, 0, 0.0, self._before["along"]], *curve, [*run.progress(), after["along"]]],
        }

    def _trained(self, run: _Run, standard: Standard, *, every: int | None) -> tuple[list[list[Any]], int]:
        """Train to the end: what was measured along the way, and how many steps were skipped."""
        steps, curve = run.config.run.iterations, []
        due = {round(i * steps / every) for i in range(1, every)} - {0, steps} if every else set()
        skipped = 0
        for metrics in run.steps():
            skipped += metrics.skipped
            if self.deadline is not None and time.time() > self.deadline:
                raise OutOfTime
            if metrics.step in due:
                curve.append([*run.progress(), standard.means(run.evaluated(SEEDS_ALONG))["along"]])
        return curve, skipped


class _Run:
    """A run under way."""

    def __init__(self, policy: Any, subject: Subject, judge: Any, prompts: Any, config: Any) -> None:
        self.config = config
        self._policy, self._subject, self._judge = policy, subject, judge
        policy.sigmas(config.rollout.steps)
        self._conds = encoded(policy, prompts.train)
        self._held_out = encoded(policy, prompts.held_out)
        self._state = TrainState.begin(policy, config)
        self.seconds = 0.0
        self.images = 0

    def steps(self) -> Iterator[Any]:
        """The metrics of the steps, one after the other; seconds and images are counted."""
        subject, config = self._subject, self.config
        run = {"reward": subject.reward, "conds": self._conds, "config": config, "state": self._state}
        made = train(self._policy, subject.decoder(), **run)
        while True:
            start = time.process_time()
            metrics = next(made, None)
            self.seconds += time.process_time() - start
            if metrics is None:
                return
            self.images += config.run.prompts_per_step * config.rollout.images
            yield metrics

    def progress(self) -> tuple[int, int, float]:
        """Steps, images and seconds so far."""
        return self._state.step, self.images, self.seconds

    def evaluated(self, seeds: int) -> Any:
        """The Evaluation of the held-out prompts with so many noises each."""
        with self._state.showing():
            found = evaluate(
                self._policy,
                self._subject.decoder(),
                reward=self._subject.reward,
                judge=self._judge,
                conds=self._held_out,
                seeds=range(seeds),
                config=RolloutConfig(steps=STEPS, branch_steps=(0,), batch_size=64),
            )
        self._policy.sigmas(self.config.rollout.steps)
        return found


class Standard:
    """Rewards in units of what the base model's images differ by. scores: theirs, {reward: (N,)}."""

    def __init__(self, scores: Mapping[str, Tensor]) -> None:
        self._of = {name: (values.mean(), values.std()) for name, values in scores.items()}

    def means(self, found: Any) -> dict[str, dict[str, float]]:
        """The mean scores of an Evaluation: of "all" its images, and of the seeds measured "along" the way."""
        standard = [(found.scores[name] - mean) / std for name, (mean, std) in self._of.items()]
        scores = {"reward": torch.stack(standard).mean(0), "adherence": found.judge, **found.scores}
        along = [i for i, seed in enumerate(found.seeds) if seed < SEEDS_ALONG]
        return {
            name: {score: round(values[at].mean().item(), 6) for score, values in scores.items()}
            for name, at in (("all", slice(None)), ("along", along))
        }


def learning_reward() -> Any:
    """The reward of all experiments."""
    made = {"clip": clip_score, "preference": preference}
    return mix(*(made[name]() for name in REWARDS))
