"""The settings of a run: frozen dataclasses that check themselves.

The defaults are the released hyper-parameters of Pave-GRPO in LoRA mode (arXiv 2606.01636 and its code). `PRESETS` names whole sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal, get_args, get_type_hints

from ..errors import ConfigError

Targets = Literal["attention", "attention + MLP", "all linear"]
Init = Literal["gaussian", "kaiming"]
OptimizerStep = Literal["accumulated", "per_step"]
OptimizerName = Literal["AdamW", "Adam", "NAdam", "RAdam", "RMSprop", "SGD"]
Schedule = Literal["constant", "cosine", "linear"]


def _at_least(owner: str, name: str, value: float, low: float, remedy: str) -> None:
    if not (math.isfinite(value) and value >= low):
        raise ConfigError(f"{owner}{name}: {value} is below {low}: {remedy}")


def _positive(name: str, value: float, remedy: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name}: {value} is not a positive number: {remedy}")


def _one_of(name: str, value: str, literal: Any) -> None:
    if value not in get_args(literal):
        raise ConfigError(f"{name}: {value!r} is not known: choose one of {', '.join(get_args(literal))}")


@dataclass(frozen=True)
class RolloutConfig:
    """How images are drawn: T, K, G and eta of the method."""

    steps: int = 16
    branch_steps: tuple[int, ...] = (0, 2, 4, 6)
    group_size: int = 12
    eta: float = 0.8
    batch_size: int = 4  # latents in one network call; memory against speed, no effect on the result but rounding

    def __post_init__(self) -> None:
        _at_least("", "steps", self.steps, 2, "a branch step and the step after it are needed")
        _at_least("", "group_size", self.group_size, 2, "an advantage compares the images of a group; the paper uses 12")
        _at_least("", "batch_size", self.batch_size, 1, "use 1 for the least memory")
        _positive("eta", self.eta, "without noise all branches are the same image; the paper uses 0.8")
        if not self.branch_steps:
            raise ConfigError("branch_steps: empty: name at least one step, such as 0, 2, 4, 6")
        for k in self.branch_steps:
            if not 0 <= k < self.steps:
                raise ConfigError(f"branch_steps: {k} is outside [0, {self.steps}): lower it or raise steps")
            if k == self.steps - 1:
                raise ConfigError(f"branch_steps: {k} is the last of {self.steps} steps, its noise would stay in the image: use at most {k - 1}")
        if sorted(set(self.branch_steps)) != list(self.branch_steps):
            raise ConfigError(f"branch_steps: {_join(self.branch_steps)} repeats a step or is not in rising order: write each once, rising")

    @property
    def images(self) -> int:
        """K * G, the scored images of one prompt."""
        return len(self.branch_steps) * self.group_size


@dataclass(frozen=True)
class PaveConfig:
    """The objective: the segment set S (empty = plain GRPO), the advantage's clamp, and the weights of its terms

    loss_k = plain_weight L_1 + 1/|S| sum_{n in S} w_n L_n          the paper's are all 1
    """

    segments: tuple[int, ...] = (2, 3)
    advantage_clip: float = 5.0
    plain_weight: float = 1.0
    segment_weights: tuple[float, ...] = ()  # w_n in the order of `segments`; empty: all 1

    def __post_init__(self) -> None:
        for n in self.segments:
            if n < 2:
                raise ConfigError(f"segments: {n} is below 2: 1 is the plain step, which is always there; leave the field empty for plain GRPO")
        if len(set(self.segments)) != len(self.segments):
            raise ConfigError(f"segments: {_join(self.segments)} repeats a number: write each once")
        _positive("advantage_clip", self.advantage_clip, "the paper uses 5")
        if self.segment_weights and len(self.segment_weights) != len(self.segments):
            raise ConfigError(
                f"segment_weights: {len(self.segment_weights)} for {len(self.segments)} segments: write one a segment, or leave the field empty"
            )
        for name, weights in (("plain_weight", (self.plain_weight,)), ("segment_weights", self.segment_weights)):
            for weight in weights:
                _at_least("", name, weight, 0, "a negative weight would train away from the reward; the paper uses 1")
        if not any(self.weights().values()):
            raise ConfigError("plain_weight: all terms of the loss have weight 0: give one a positive weight")

    def weights(self) -> dict[int, float]:
        """{n: weight of L_n}, with 1 for the plain step."""
        return {1: self.plain_weight, **dict(zip(self.segments, self.segment_weights or (1.0,) * len(self.segments), strict=True))}


@dataclass(frozen=True)
class LoraConfig:
    """The adapter."""

    rank: int = 64
    alpha: float = 128.0
    targets: Targets = "attention"
    init: Init = "gaussian"

    def __post_init__(self) -> None:
        _at_least("", "rank", self.rank, 1, "8 to 64 are usual")
        _positive("alpha", self.alpha, "the adapter is scaled by alpha / rank; twice the rank is the paper's")
        _one_of("targets", self.targets, Targets)
        _one_of("init", self.init, Init)


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer, of torch. `step` says when it moves: once an iteration, or once a branch step (the released code's DeepSpeed mode)."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)  # SGD takes the first as its momentum, RMSprop the second as its smoothing
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    warmup_steps: int = 0
    step: OptimizerStep = "accumulated"
    optimizer: OptimizerName = "AdamW"
    schedule: Schedule = "constant"
    decay_steps: int = 300  # the optimizer step at which cosine and linear reach 0

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate, "1e-4 is the paper's for LoRA, 5e-4 suits the bundled tiny model")
        _positive("max_grad_norm", self.max_grad_norm, "the paper uses 1")
        _at_least("", "weight_decay", self.weight_decay, 0, "the paper uses 1e-4")
        _at_least("", "warmup_steps", self.warmup_steps, 0, "0 switches the warm-up off")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise ConfigError(f"betas: {beta} is outside [0, 1): the paper uses 0.9 and 0.999")
        _one_of("optimizer_step", self.step, OptimizerStep)
        _one_of("optimizer", self.optimizer, OptimizerName)
        _one_of("schedule", self.schedule, Schedule)
        if self.schedule != "constant" and self.decay_steps <= self.warmup_steps:
            raise ConfigError(
                f"decay_steps: {self.decay_steps} is not above warmup_steps {self.warmup_steps}: give the number of training steps, at which a "
                f"{self.schedule} schedule reaches 0, or set schedule to constant"
            )


@dataclass(frozen=True)
class RunConfig:
    """The length of the run and its randomness."""

    iterations: int = 300
    prompts_per_step: int = 1
    seed: int = 0
    checkpoint_every: int = 25

    def __post_init__(self) -> None:
        _at_least("", "iterations", self.iterations, 1, "300 is the paper's")
        _at_least("", "prompts_per_step", self.prompts_per_step, 1, "more prompts a step give a steadier gradient and take longer")
        _at_least("", "seed", self.seed, 0, "use 0 or more")
        _at_least("", "checkpoint_every", self.checkpoint_every, 1, "use a large number for few checkpoints")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that the core needs to know of a run."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    pave: PaveConfig = field(default_factory=PaveConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        steps = self.run.iterations
        if self.optim.step == "per_step":
            steps *= self.run.prompts_per_step * len(self.rollout.branch_steps)
        if self.optim.schedule != "constant" and self.optim.decay_steps < steps:
            raise ConfigError(
                f"decay_steps: {self.optim.decay_steps} is below the {steps} optimizer steps of this run, the rest would train at rate 0: raise it"
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain JSON values; from_dict reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of to_dict. Missing keys take their default; an unknown key is a ConfigError."""
        return _from_dict(cls, values, "config")


def _from_dict(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    types = get_type_hints(cls)
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"{where}.{name}: not a known setting: remove it, or use one of {', '.join(types)}")
        if is_dataclass(types[name]):
            built[name] = _from_dict(types[name], value, f"{where}.{name}")
        else:
            built[name] = tuple(value) if isinstance(value, list) else value
    return cls(**built)


def _join(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(n) for n in numbers)


def parse_int_set(name: str, text: str) -> tuple[int, ...]:
    """ "0, 2, 4" -> (0, 2, 4), in rising order; an empty text gives (). `name` is the field that an error speaks of."""
    parts = [part for part in text.replace(",", " ").split() if part]
    try:
        return tuple(sorted(int(part) for part in parts))
    except ValueError:
        raise ConfigError(f"{name}: {text!r} is not a list of whole numbers: write it like 0, 2, 4") from None


def parse_segments(segments: str, weights: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """ "3, 2" and "0.5, 1" -> (2, 3), (1, 0.5): the segments in rising order, each with the weight written at its place."""
    numbers = [parse_int_set("segments", part)[0] for part in segments.replace(",", " ").split()]
    try:
        factors = [float(part) for part in weights.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(f"segment_weights: {weights!r} is not a list of numbers: write it like 1, 0.5") from None
    if not factors:
        return tuple(sorted(numbers)), ()
    if len(factors) != len(numbers):
        raise ConfigError(f"segment_weights: {len(factors)} for {len(numbers)} segments: write one a segment, or leave the field empty")
    pairs = sorted(zip(numbers, factors, strict=True))
    return tuple(n for n, _ in pairs), tuple(w for _, w in pairs)


PRESETS: dict[str, TrainConfig] = {
    "paper": TrainConfig(),
    "quick": TrainConfig(
        rollout=RolloutConfig(steps=8, branch_steps=(0, 2, 4), group_size=8, batch_size=64),
        lora=LoraConfig(rank=8, alpha=16, targets="attention + MLP"),
        optim=OptimConfig(learning_rate=5e-4),
        run=RunConfig(iterations=40, prompts_per_step=4, checkpoint_every=20),
    ),
}
"""Named settings: "paper" is the released LoRA run, "quick" suits the bundled tiny model on a CPU."""
