"""The settings of the optimizer: its kind, its learning rate over the steps, and how often it steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ConfigError
from .fields import Setting, check, pair, setting

OptimizerStep = Literal["accumulated", "per_step"]
OptimizerName = Literal["AdamW", "Adam", "NAdam", "RAdam", "RMSprop", "SGD"]
Schedule = Literal["constant", "cosine", "linear"]


@dataclass(frozen=True)
class OptimConfig:
    """A torch optimizer. The defaults are the paper's for LoRA."""

    optimizer: OptimizerName = setting(
        "AdamW", "The optimizer, from torch. AdamW is the paper's.", options=get_args(OptimizerName)
    )
    learning_rate: float = setting(
        1e-4,
        "How far each step moves: raise it if nothing moves, lower it if images fall apart. 1e-4 for large models, "
        "7e-4 for the bundled one; change it by factors of 2 or 3.",
        low=1e-7,
        high=1.0,
        step=1e-7,
        remedy="1e-4 is the paper's for LoRA, 7e-4 suits the bundled tiny model",
    )
    schedule: Schedule = setting(
        "constant",
        "The learning rate after the warm-up: constant, or falling to 0 at decay_steps.",
        options=get_args(Schedule),
    )
    decay_steps: int = setting(
        300,
        "The optimizer step at which cosine and linear reach 0, usually the last one. Unused with constant.",
        low=0,
        high=100_000,
    )
    warmup_steps: int = setting(
        0,
        "A gentler start, for runs that jump at first: optimizer steps over which the learning rate rises. 0: none.",
        low=0,
        high=100_000,
        expert=True,
        remedy="0 switches the warm-up off",
    )
    weight_decay: float = setting(
        1e-4,
        "Rarely matters: pulls the LoRA a little toward no change. The optimizer's weight decay.",
        low=0.0,
        high=1.0,
        step=1e-5,
        expert=True,
        remedy="the paper uses 1e-4",
    )
    betas: tuple[float, float] = pair(
        (0.9, 0.999),
        Setting(
            "Decay of the running mean of the gradient; for SGD, the momentum. Unused by RMSprop.",
            low=0.0,
            high=0.9999,
            step=0.0001,
            expert=True,
            remedy="the paper uses 0.9",
            widget="beta1",
        ),
        Setting(
            "Decay of the running mean of the squared gradient. Unused by SGD.",
            low=0.0,
            high=0.99999,
            step=0.00001,
            expert=True,
            remedy="the paper uses 0.999",
            widget="beta2",
        ),
    )
    max_grad_norm: float = setting(
        1.0,
        "Keeps one step from wrecking the model: gradients above this norm are scaled down to it. 1 is usual.",
        low=0.001,
        high=1000.0,
        step=0.001,
        expert=True,
        remedy="the paper uses 1",
    )
    step: OptimizerStep = setting(
        "accumulated",
        "per_step moves faster and less steadily. accumulated: one optimizer step per training step; per_step: one "
        "after each branch step.",
        options=get_args(OptimizerStep),
        expert=True,
        widget="optimizer_step",
    )
    ema_decay: float = setting(
        0.0,
        "Decay of a running mean of the LoRA's weights, which is what is evaluated and saved (Flow-GRPO: 0.9 at every "
        "8th step, 0.987 a step). 0: the weights themselves.",
        low=0.0,
        high=0.9999,
        step=0.0001,
        expert=True,
        remedy="0 evaluates and saves the weights themselves",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.schedule != "constant" and self.decay_steps <= self.warmup_steps:
            raise ConfigError(
                f"decay_steps: {self.decay_steps} is not above warmup_steps {self.warmup_steps}: give the number of "
                f"training steps, at which a {self.schedule} schedule reaches 0, or set schedule to constant"
            )
