"""What a run is asked: its task, where it is kept, what it is measured on and what watches it."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.fields import check, setting
from ..config.train import TrainConfig
from ..errors import ConfigError
from ..evaluation.guard import GuardSettings
from ..rollout.prompts import PromptSet
from ..scoring.mix import RewardMix
from ..types import Reward

NO_RESUME = "none"
"""What `resume` is where a run begins anew."""


@dataclass(frozen=True)
class RunSettings:
    """What a run is asked beside what it trains on."""

    name: str = setting(
        "pave",
        "The run's folder is output/pave/<name>_<number>; metrics, TensorBoard events, checkpoint and pictures are kept "
        "there.",
        widget="run_name",
    )
    resume: str = setting(
        NO_RESUME,
        "Go on with a run that was cancelled or is to be longer. All settings but iterations, batch_size and "
        "checkpoint_every must be as they were. Press R to refresh the list.",
    )
    evaluation_seeds: int = setting(
        4,
        "Images of each held-out prompt, from seeds 1, 2, 3, ... (the same before and after).",
        low=1,
        high=256,
        expert=True,
    )
    evaluate_every: int = setting(
        0,
        "Steps between evaluations on the held-out prompts. 0: only before and after.",
        low=0,
        high=100_000,
        expert=True,
    )
    check_reward: bool = setting(
        True,
        "Draw a few groups before the first step and stop if the reward cannot tell their images apart.",
        expert=True,
    )
    iterations: int | None = None  # the whole run's, to refuse resuming one that is done; None where a graph decides
    guard: GuardSettings | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the held-out images."""
        return tuple(range(1, self.evaluation_seeds + 1))


@dataclass(frozen=True)
class Task:
    """All that a run is to do.

    `reward` is what the held-out prompts are measured with, and what trains; None where only nodes of a graph can score.
    """

    config: TrainConfig
    settings: RunSettings
    prompts: PromptSet
    reward: RewardMix | None
    judge: Reward | None = None

    def __post_init__(self) -> None:
        for name, other in (("judge", self.judge), ("guard", self.settings.guard)):
            if other is not None and self.reward is None:
                raise ConfigError(
                    f"{name}: it is measured together with the reward: connect a reward as well, or leave the {name} open"
                )
