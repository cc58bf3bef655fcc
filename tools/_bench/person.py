"""A person as the reward: what do CLICKS clicks of a simulated person teach the bundled model, and what does it then
teach itself?

The person (simulated.py) answers one question a group, of GROUP images, and 10 % of the clicks are wrong. Held-out
taste is the person's true utility on images of prompts and seeds that are never trained on, in units of the standard
deviation of the base model's images; its standard error is that of the paired difference over images.

    clicks    training by Bradley-Terry scores from the clicks alone
    alone     from there on, ALONE steps by the taste that was learnt from these clicks, without any click
    asking    the same clicks with alone_after: what the taste is sure of is not asked; how many clicks are left?
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from _cuda.host import pack_module

from .settings import Settings, replaced
from .simulated import SimulatedPerson, utility
from .subject import Subject, captions, encoded, shapes, tiny

Choice = pack_module("pave_core.person.choice").Choice
Learner = pack_module("pave_core.person.learner").Learner
PersonReward = pack_module("pave_core.person.reward").PersonReward
taste = pack_module("pave_core.person.taste")
RewardMix = pack_module("pave_core.scoring.mix").RewardMix
RolloutConfig = pack_module("pave_core.config.rollout").RolloutConfig
TrainState = pack_module("pave_core.training.state").TrainState
evaluate = pack_module("pave_core.evaluation.evaluate").evaluate
paired_gain = pack_module("pave_core.evaluation.gain").paired_gain
split_prompts = pack_module("pave_core.rollout.prompts").split_prompts
train = pack_module("pave_core.training.loop").train

CLICKS = 60
GROUP = 12
QUESTIONS = 2
"""Of a step: prompts with one group each."""
ALONE = 10
"""Steps without a click."""
POINTS = 3
"""Measurements along the clicks, the last of them after all."""
ALONE_AFTER, SURE = 24, 0.8
SETTINGS: Settings = {
    **{"rollout.steps": 4, "rollout.branch_steps": (0,), "rollout.group_size": GROUP, "rollout.batch_size": 64},
    **{"run.prompts_per_step": QUESTIONS, "run.iterations": CLICKS // QUESTIONS, "optim.learning_rate": 6e-4},
    **{"lora.rank": 8, "lora.alpha": 16, "lora.targets": "attention + MLP", "pave.segments": (2, 3)},
}
HELD_OUT, SPLIT_SEED = 0.2, 0
STEPS, SEEDS = 16, 16
"""Denoising steps of an evaluated image, as of the quickstart's KSampler, and noises a prompt."""


class Utility:
    """The person's true utility as a reward, which is only measured. features: of the images that it has scored."""

    name = "utility"

    def __init__(self, look: Any) -> None:
        self._look, self.features = look, []

    def __call__(self, images: Any, prompts: Any) -> Any:
        self.features.append(self._look(images))
        return utility(images)


@dataclass(frozen=True)
class Run:
    """One seed."""

    seed: int
    clicks: int
    curve: tuple[tuple[int, float, float], ...]  # (clicks, gain, its standard error) along the clicks
    gain: float  # after the clicks, in standard deviations of the base model's images
    gain_se: float
    alone_gain: float  # after ALONE more steps without a click
    alone_se: float
    accuracy: float  # the taste's, of held-out answers
    accuracy_se: float
    true_accuracy: float  # of pairs of held-out images, by the true utility
    adherence: tuple[float, ...]  # of the base model, after the clicks, and alone
    asking_clicks: int  # with alone_after: clicks, of as many questions
    asking_gain: float
    asking_se: float
    seconds: float  # of a training step

    def line(self) -> str:
        base, then, last = self.adherence
        return (
            f"seed {self.seed}: {self.clicks} clicks, taste {_number(self.gain, self.gain_se)}, alone "
            f"{_number(self.alone_gain, self.alone_se)}; accuracy {self.accuracy:.3f} +- {self.accuracy_se:.3f}, of "
            f"held-out images {self.true_accuracy:.3f}; adherence {base:.2f} {then:.2f} {last:.2f}; asking "
            f"{self.asking_clicks} clicks {_number(self.asking_gain, self.asking_se)}; {self.seconds:.2f} s a step"
        )


def measured_runs(subject: Subject, settings: Settings, seeds: int) -> Iterator[Run]:
    """The runs of the study. settings: over SETTINGS."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        study = _Study(subject, SETTINGS | settings)
        for seed in range(seeds):
            yield study.run(seed)


class _Study:
    def __init__(self, subject: Subject, settings: Settings) -> None:
        self._subject, self._settings = subject, settings
        self._prompts = split_prompts(captions(), HELD_OUT, SPLIT_SEED)
        self._judge = shapes.Adherence(tiny.SHAPE_CLASSIFIER)
        self._features = taste.ClipFeatures(tiny.OPEN_CLIP_MODEL, tiny.OPEN_CLIP_CONFIG)
        self._before: Any = None

    def run(self, seed: int) -> Run:
        config = replaced(pack_module("pave_core.config.train").TrainConfig(), self._settings | {"run.seed": seed})
        person = SimulatedPerson(Choice, seed=seed, clicks=CLICKS)
        learner = Learner(self._features)
        with self._subject.policy(config) as policy:
            lab = _Lab(self, policy, config)
            if self._before is None:
                self._before, self.images = lab.evaluated(), lab.images
            seconds, curve, after = 0.0, [], self._before
            for _ in range(POINTS):
                started = time.process_time()
                lab.train(PersonReward(person, learner=learner), config.run.iterations // POINTS)
                seconds += time.process_time() - started
                after = lab.evaluated()
                curve.append((person.clicks, *self._gain(after)))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "taste.safetensors"
                learner.taste.save(file)
                alone = taste.TasteReward(file, self._features)
            lab.train(alone, ALONE)
            last = lab.evaluated()
        asked = SimulatedPerson(Choice, seed=seed, clicks=CLICKS)
        with self._subject.policy(config) as policy:
            lab = _Lab(self, policy, config)
            sparing = Learner(self._features, alone_after=ALONE_AFTER, sure=SURE)
            lab.train(PersonReward(asked, learner=sparing), config.run.iterations)
            asking = lab.evaluated()
        gain, gain_se = curve[-1][1:]
        alone_gain, alone_se = self._gain(last)
        asking_gain, asking_se = self._gain(asking)
        return Run(
            seed=seed,
            clicks=person.clicks,
            curve=tuple(curve),
            gain=gain,
            gain_se=gain_se,
            alone_gain=alone_gain,
            alone_se=alone_se,
            accuracy=learner.taste.accuracy.share,
            accuracy_se=learner.taste.accuracy.se,
            true_accuracy=self._true_accuracy(learner.taste),
            adherence=tuple(found.judge.mean().item() for found in (self._before, after, last)),
            asking_clicks=asked.clicks,
            asking_gain=asking_gain,
            asking_se=asking_se,
            seconds=seconds / config.run.iterations,
        )

    def _gain(self, after: Any) -> tuple[float, float]:
        spread = self._before.total.std().item()
        gain, error = paired_gain(self._before.total, after.total)
        return gain / spread, error / spread

    def _true_accuracy(self, found: Any) -> float:
        """Of the pairs of the base model's held-out images of one prompt, the share that is ordered rightly."""
        scores, true = (values.view(-1, SEEDS) for values in (found.scores(self.images), self._before.total))
        right = (scores[:, :, None] > scores[:, None]) == (true[:, :, None] > true[:, None])
        a, b = torch.triu_indices(SEEDS, SEEDS, 1)
        return right[:, a, b].float().mean().item()


class _Lab:
    """A policy under training."""

    def __init__(self, study: _Study, policy: Any, config: Any) -> None:
        self._study, self._policy, self._config = study, policy, config
        policy.sigmas(config.rollout.steps)
        prompts = study._prompts
        self._conds, self._held_out = (encoded(policy, some) for some in (prompts.train, prompts.held_out))
        self._state = TrainState.begin(policy, config)
        self.images: Any = None

    def train(self, reward: Any, steps: int) -> None:
        """So many steps more."""
        config = replaced(self._config, {"run.iterations": self._state.step + steps})
        parts = {"reward": RewardMix.of(reward), "conds": self._conds, "config": config, "state": self._state}
        for _ in train(self._policy, self._study._subject.decoder(), **parts):
            pass

    def evaluated(self) -> Any:
        """The Evaluation of the held-out prompts; `images` are the features of its images."""
        seen = Utility(self._study._features)

        with self._state.showing():
            found = evaluate(
                self._policy,
                self._study._subject.decoder(),
                reward=RewardMix.of(seen),
                judge=self._study._judge,
                conds=self._held_out,
                seeds=range(SEEDS),
                config=RolloutConfig(steps=STEPS, branch_steps=(0,), batch_size=64),
            )
        self._policy.sigmas(self._config.rollout.steps)
        self.images = torch.cat(seen.features)
        return found


def _number(gain: float, error: float) -> str:
    return f"{gain:+.2f} +- {error:.2f} ({gain / error:.1f} se)"
