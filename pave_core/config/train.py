"""All settings that training depends on, in one dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, get_type_hints

from ..errors import ConfigError, quoted
from .adapter import LoraConfig
from .combinations import check_combinations
from .fields import check, setting
from .memory import MemoryConfig
from .objective import PaveConfig
from .optimizer import OptimConfig
from .rollout import RolloutConfig


@dataclass(frozen=True)
class RunConfig:
    """The length of a run, its seed, and how often it is saved."""

    iterations: int = setting(
        300,
        "How long it trains, in steps of the whole run, those before a resume included: time grows with it. Too few: "
        "the gain stays within the noise; too many: the reward gets fooled. 150 for the bundled model (2 minutes on "
        "a CPU), 300 in the paper.",
        low=1,
        high=100_000,
        remedy="300 is the paper's",
    )
    prompts_per_step: int = setting(
        1,
        "Twice as many take twice the time and give a steadier gradient: the prompts in each training step. 1 is the "
        "paper's; raise it if the curve jumps about.",
        low=1,
        high=64,
        remedy="more prompts per step give a steadier gradient and take longer",
    )
    seed: int = setting(
        0,
        "Another seed, another LoRA: all randomness follows from it, and the same seed on the same machine gives the "
        "same LoRA.",
        low=0,
        high=2**53 - 1,
        remedy="use 0 or more",
    )
    checkpoint_every: int = setting(
        25,
        "How much a crash may cost, in steps. A checkpoint is also written after the first step, at least every five "
        "minutes, and at Cancel, so that it rarely matters. Costs a second or two each time.",
        low=1,
        high=100_000,
        expert=True,
        remedy="use a large number for few checkpoints",
    )
    sample_ahead: bool = setting(
        False,
        "The images of the next step are drawn while those of this one are judged, so that nobody waits for them: for "
        "Pave Person, and judges that take long. They are then drawn by weights that are one update old, for which "
        "ratio corrects: set it to clip or divergence mask.",
        expert=True,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class TrainConfig:
    """The settings of every part of training, and the checks that concern several of them."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    pave: PaveConfig = field(default_factory=PaveConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        check_combinations(self)
        steps = self.run.iterations * self.pave.updates_per_rollout
        if self.optim.step == "per_step":
            steps *= self.run.prompts_per_step * len(self.rollout.branch_steps)
        if self.optim.schedule != "constant" and self.optim.decay_steps < steps:
            raise ConfigError(
                f"decay_steps: {self.optim.decay_steps} is below the {steps} optimizer steps of this run, the last of "
                "which would have learning rate 0: raise it"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested plain JSON values; from_dict reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of to_dict. A missing key has its default; an unknown one is a ConfigError."""
        return _from_dict(cls, values, "config")


def _from_dict(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {quoted(values)} is not a group of settings: use one of this pack's recipes")
    types = get_type_hints(cls)
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            unknown = quoted(name).strip("'")
            raise ConfigError(f"{where}.{unknown}: not a known setting: remove it, or use one of {', '.join(types)}")
        if is_dataclass(types[name]):
            built[name] = _from_dict(types[name], value, f"{where}.{name}")
        else:
            built[name] = tuple(value) if isinstance(value, list) else value
    return cls(**built)
