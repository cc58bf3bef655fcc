"""The settings of a run besides those of the training method, and its task: all settings, prompts and rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config.fields import check, setting
from ..config.train import TrainConfig
from ..errors import ConfigError, quoted
from ..evaluation.guard import GuardSettings
from ..rollout.prompts import PromptSet
from ..scoring.mix import RewardMix
from ..types import Reward

NO_RESUME = "none"
"""The value of `resume` for a new run."""
IN_RECIPES = ("name", "evaluation_seeds", "evaluate_every", "check_reward", "check_gradient")
"""The settings that the recipe of a headless run has in "run"."""


@dataclass(frozen=True)
class RunSettings:
    """Where a run is kept, what it resumes, how it is measured, and its guard."""

    name: str = setting(
        "pave",
        "By which you find the run again: in the panel, in resume, and as the folder output/pave/<name>_<number> "
        "with its curve, pictures and checkpoint.",
        widget="run_name",
    )
    resume: str = setting(
        NO_RESUME,
        "Nothing is lost by Cancel: choose the run here and press Run to go on with it, or raise iterations to make it "
        "longer. All settings but iterations, batch_size and checkpoint_every must be as they were. Press R to refresh "
        "the list.",
    )
    evaluation_seeds: int = setting(
        4,
        "More make the gain more certain, and each measurement slower: the images of each held-out prompt, from the "
        "same seeds before and after. With 4 times as many the error halves.",
        low=1,
        high=256,
        expert=True,
    )
    evaluate_every: int = setting(
        0,
        "How often you see whether it really learns: steps between measurements on the held-out prompts. Each draws "
        "held-out prompts x evaluation_seeds images. 0: only before and after, the fastest; 20 to 50 for a curve.",
        low=0,
        high=100_000,
    )
    check_reward: bool = setting(
        True,
        "Saves hours that teach nothing: draws a few groups before the first step, and stops if the reward cannot tell "
        "their images apart. Costs about as much as a training step.",
        expert=True,
    )
    check_gradient: bool = setting(
        True,
        "Saves hours that train nothing: looks at one gradient before the first step. Layers that change nothing get "
        "no LoRA, and a gradient that is wrong stops the run. Costs two calls of the network.",
        expert=True,
    )
    iterations: int | None = None  # of the whole run: one that has done them is only finished; None: a graph decides
    guard: GuardSettings | None = None

    def __post_init__(self) -> None:
        check(self)

    def to_recipe(self) -> dict[str, Any]:
        """What the recipe of a headless run says of them in "run"."""
        return {name: getattr(self, name) for name in IN_RECIPES}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the held-out evaluations: 1, 2, ..."""
        return tuple(range(1, self.evaluation_seeds + 1))


@dataclass(frozen=True)
class Task:
    """The task of a run: its settings, prompts and rewards. ConfigError without a training prompt, for a judge or
    a guard without a reward, and for a judge or candidates that would have to ask a person.

    `reward` is trained on, and measured on the held-out prompts; None where only nodes of a graph score images.
    """

    config: TrainConfig
    settings: RunSettings
    prompts: PromptSet
    reward: RewardMix | None
    judge: Reward | None = None

    def __post_init__(self) -> None:
        if not self.prompts.train:
            raise ConfigError("prompts: there are none to train on: write at least one, or keep fewer for evaluation")
        for name, other in (("judge", self.judge), ("guard", self.settings.guard)):
            if other is not None and self.reward is None:
                raise ConfigError(
                    f"{name}: it is measured together with the reward: connect a reward as well, or disconnect the "
                    f"{name}"
                )
        if self.judge is not None and RewardMix.of(self.judge).asks:
            raise ConfigError(
                f"judge: {quoted(self.judge.name)} asks a person, who is asked about training images alone: connect "
                "another, such as a taste that was saved"
            )
        candidates = self.config.rollout.candidates
        if candidates and self.reward is not None and self.reward.asks:
            raise ConfigError(
                f"candidates: {candidates} prompts would be compared by their scores, and a person is asked about "
                "training images alone: set candidates to 0"
            )
