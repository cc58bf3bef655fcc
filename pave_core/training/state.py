"""The mutable state of a run, and its checkpoint: a copy that does not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..config.optimizer import OptimConfig
from ..config.train import TrainConfig
from ..errors import ConfigError
from ..rollout.curriculum import RunningStats
from ..types import Policy
from .optimizer import learning_rate, make_optimizer

COUNTERS = ("updates", "skipped", "skipped_in_a_row", "halvings", "scale_halvings")


@dataclass(frozen=True)
class Checkpoint:
    """A copy of a training state, on the CPU."""

    step: int  # complete steps
    recipe: dict[str, Any]  # plain JSON values: settings, rewards, prompts, the base model's fingerprint
    adapter: dict[str, Tensor]  # parameter name -> values
    optimizer: dict[str, Tensor]  # "<parameter name>|<moment>" -> values
    counters: dict[str, int]  # the values of COUNTERS
    average: dict[str, Tensor] = field(default_factory=dict)  # parameter name -> running mean; empty without one
    running: RunningStats | None = None  # of the candidates' scores
    earlier: dict[str, Tensor] = field(default_factory=dict)  # as TrainState.earlier

    @property
    def weights(self) -> dict[str, Tensor]:
        """What is evaluated and saved: the running mean of the adapter where there is one, else the adapter."""
        return self.average or self.adapter


@dataclass
class TrainState:
    """The state of a run under way. train() owns it; between two steps a guard may send it back (see return_to)."""

    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int = 0  # complete training steps
    updates: int = 0  # optimizer steps
    skipped: int = 0  # training steps that were not finite
    skipped_in_a_row: int = 0  # how many of the latest steps were skipped, without another between
    halvings: int = 0  # how often the learning rate was halved, by the guard or by hand
    scale_halvings: int = 0  # how often the scale of the loss was halved (fp16)
    average: dict[str, Tensor] = field(default_factory=dict)  # the running mean of the parameters; empty without one
    earlier: dict[str, Tensor] = field(default_factory=dict)  # those that draw the next step; empty: the current ones
    running: RunningStats | None = None  # of the candidates' scores
    settled: Checkpoint | None = None  # the state of the last complete step, where the weights are not that state's

    @classmethod
    def begin(cls, policy: Policy, config: TrainConfig) -> TrainState:
        """The state at step 0 of a policy with a fresh adapter."""
        parameters = policy.parameters()
        state = cls(parameters, make_optimizer(parameters.values(), config.optim))
        if config.optim.ema_decay:
            state.average = {name: p.detach().clone() for name, p in parameters.items()}
        return state

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Let the running mean follow the parameters: mean <- decay mean + (1 - decay) parameter."""
        for name, mean in self.average.items():
            mean.lerp_(self.parameters[name], 1 - decay)

    def halve(self) -> None:
        """Halve the learning rate, from the next optimizer step on."""
        self.halvings += 1
        if self.settled is not None:
            counters = self.settled.counters | {"halvings": self.halvings}
            self.settled = replace(self.settled, counters=counters)

    @contextmanager
    def step_under_way(self, config: TrainConfig) -> Iterator[None]:
        """Inside, a step is under way: if an exception ends it, the state is that of the last complete step."""
        several = config.optim.step == "per_step" or config.pave.updates_per_rollout > 1
        self.settled = self.capture({}) if several else None
        try:
            yield
        except BaseException:
            self.optimizer.zero_grad(set_to_none=True)
            if self.settled is not None:
                self.restore(self.settled)
            raise
        finally:
            self.settled = None

    def capture(self, recipe: dict[str, Any]) -> Checkpoint:
        """A copy, on the CPU, of the state after the last complete step."""
        if self.settled is not None:
            return replace(self.settled, recipe=recipe)
        counters = {name: getattr(self, name) for name in COUNTERS}
        adapter = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}
        moments = {
            name: value.to("cpu", copy=True)
            for name, value in optimizer_tensors(self.optimizer, self.parameters).items()
        }
        average, earlier = (
            {name: value.to("cpu", copy=True) for name, value in values.items()}
            for values in (self.average, self.earlier)
        )
        return Checkpoint(self.step, recipe, adapter, moments, counters, average, self.running, earlier)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Become the state of `checkpoint`, in place. ConfigError if its parameters have other names or shapes."""
        shapes = {name: p.shape for name, p in self.parameters.items()}
        if {name: value.shape for name, value in checkpoint.adapter.items()} != shapes:
            raise ConfigError(
                "resume: the checkpoint's adapter has other layers or ranks than this run's: resume with the model and "
                "the LoRA settings it had"
            )
        if checkpoint.average.keys() != self.average.keys():
            raise ConfigError(
                "resume: the checkpoint and this run do not both have a running mean of the weights: resume with the "
                "ema_decay it had"
            )
        self.return_to(checkpoint)
        self.step, self.running = checkpoint.step, checkpoint.running
        self.earlier = {name: value.to(self.parameters[name].device) for name, value in checkpoint.earlier.items()}
        for name in COUNTERS:
            setattr(self, name, checkpoint.counters.get(name, 0))

    def return_to(self, checkpoint: Checkpoint) -> None:
        """Take the weights and the optimizer's moments of an earlier state of this run, and keep step and counters."""
        self._set(checkpoint.adapter)
        for name, value in checkpoint.average.items():
            self.average[name].copy_(value)
        restore_optimizer(self.optimizer, self.parameters, checkpoint.optimizer)

    @contextmanager
    def showing(self, checkpoint: Checkpoint | None = None) -> Iterator[None]:
        """Inside, the policy has the weights that are evaluated and saved: those of `checkpoint`, or the current ones.

        The current ones are those of the last complete step. Afterwards it trains on from where it was.
        """
        shown = checkpoint or self.settled
        with self._lent(self.average if shown is None else shown.weights):
            yield

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Inside, the policy has the weights that draw the next step's images, likewise."""
        with self._lent(self.earlier):
            yield

    def weights(self) -> dict[str, Tensor]:
        """A copy of the parameters' values."""
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    @contextmanager
    def _lent(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        newest, outer = self.weights() if weights else {}, self.settled
        if weights and outer is None:
            self.settled = self.capture({})
        self._set(weights)
        try:
            yield
        finally:
            self._set(newest)
            if outer is None:
                self.settled = None

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in weights.items():
            self.parameters[name].copy_(value)

    def rate(self, config: OptimConfig, update: int) -> float:
        """The learning rate of optimizer step `update`, counted from 0, with its halvings."""
        return learning_rate(config, update) / 2**self.halvings


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{"<parameter name>|<moment>": values} of an optimizer; names: its parameters by name."""
    return {
        f"{name}|{moment}": value
        for name, p in names.items()
        for moment, value in optimizer.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of optimizer_tensors. Moments go to their parameter's device; step counts (scalars) are not moved."""
    optimizer.state.clear()
    for key, value in tensors.items():
        name, moment = key.split("|")
        device = names[name].device
        optimizer.state[names[name]][moment] = value.clone() if value.ndim == 0 else value.to(device, copy=True)
