"""What a run needs of the device's memory, by phase and part.

    encode      weights + text encoder
    rollout     weights + adapter + latents + working set of one call (batch_size latents)
    decode      weights + adapter + latents + VAE + its working set (decode_batch images, each in tiles where it must)
    reward      weights + adapter + latents + the reward's network
    update      weights + adapter + latents + N (kept for backward + working set)

    adapter     parameters x 4 bytes x (value + gradient + moments of the optimizer + running mean)
    latents     of 4 bytes: starts, noise, branches and finals of all prompts (work.py)
    kept        evaluations that are alive at once x bytes of one: 1 + sum_{n in S} (n - 1), or the widest call where
                chains are computed again
    working set of a call: some multiple of what one block keeps, times the latents in the call; with gradient, one less
                where the block in work is among the kept
    N           states x_k whose chains are evaluated together: as many as fit beside the weights and the VAE

The host sees to it that weights which do not fit beside the rest stay in system memory, and that they make room for
text encoder, VAE and reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..config.train import TrainConfig
from .calls import Seconds
from .growth import Growth
from .pace import Pace
from .work import Work

FLOAT = 4
ROUNDING = 1e-6
FILLED = 0.9
"""How much of what is free the chains of several states may take: predictions are not exact, and where memory runs out
the work that was done is lost."""
MOMENTS = {"AdamW": 2, "Adam": 2, "NAdam": 2, "RAdam": 2, "RMSprop": 1, "SGD": 1}
"""Tensors that an optimizer keeps for each parameter."""


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation of the network keeps for backward: of one latent, guidance included, without the weights."""

    checkpointed: Growth  # where all blocks are computed again
    plain: Growth  # where none is
    block: Growth  # within the block that keeps most


@dataclass(frozen=True)
class Measured:
    """What was measured of the parts of a run; bytes and seconds."""

    evaluation: Evaluation
    weights: float  # of the model, as it is loaded
    weights_in_8_bits: float
    parameters: float  # of an adapter of rank 1
    decoder: float  # the VAE's weights
    decoding: Growth  # of one image
    text_encoder: float  # 0 where it is on another device
    reward: float = 0.0  # the largest network of a reward; 0 where none is known
    forward_blocks: float = 1.5  # working set of a call without gradient, in what one block keeps: 1.1 to 1.9 on CPUs
    backward_blocks: float = 2.0  # the same with gradient and blocks computed again: 1.4 to 2.5
    seconds: Seconds | None = None


@dataclass(frozen=True)
class Case:
    """The settings that decide what a run needs."""

    config: TrainConfig
    shape: tuple[int, ...]  # *S
    in_8_bits: bool = False  # whether the weights are cast to 8 bits, other than they are now

    @property
    def area(self) -> int:
        """Height x width of the latent."""
        return math.prod(self.shape[-2:])

    @property
    def work(self) -> Work:
        """What a training step consists of."""
        return Work(self.config)


@dataclass(frozen=True)
class Needs:
    """What a run needs."""

    phases: Mapping[str, Mapping[str, float]]  # {phase: {part: bytes}}
    checkpointing: bool  # whether the blocks are computed again
    offloaded: float  # the share of the weights that stays in system memory
    budget: float  # bytes that the run may use of the device
    states: int  # x_k of the update
    update_batch: int  # N: those that are evaluated together
    pace: Pace | None = None  # None: nothing is known of the time

    def peak(self, phase: str) -> float:
        """The bytes of a phase."""
        return sum(self.phases[phase].values())

    @property
    def room(self) -> float:
        """The bytes beside the weights that the phases need which use them."""
        return max(self.peak(phase) - self.phases[phase]["weights"] for phase in ("rollout", "update"))

    @property
    def seconds(self) -> Mapping[str, float]:
        """Those of a training step, {phase: seconds}, without phases of which nothing is known."""
        return {} if self.pace is None else self.pace.step

    @property
    def too_large(self) -> list[str]:
        """The phases that do not fit."""
        return [phase for phase in self.phases if self.peak(phase) > self.budget]


def needs_of(measured: Measured, case: Case, budget: float) -> Needs:
    """The prediction. "auto" checkpoints where all weights that are to stay on the device would not fit otherwise,
    beside the chains of one state.
    """
    memory = case.config.memory
    if memory.checkpointing != "auto":
        return _needs(measured, case, budget, memory.checkpointing == "on")
    plain = _needs(measured, case, budget, checkpointing=False)
    updates = plain.peak("update") <= budget and plain.offloaded <= memory.offload + ROUNDING
    return plain if updates else _needs(measured, case, budget, checkpointing=True)


def fits(needs: Needs, case: Case) -> bool:
    """Whether every phase fits without more offloading than was asked for."""
    return not needs.too_large and needs.offloaded <= case.config.memory.offload + ROUNDING


def _needs(measured: Measured, case: Case, budget: float, checkpointing: bool) -> Needs:
    config, area, work = case.config, case.area, case.work
    memory, rollout = config.memory, config.rollout
    copies = 2 + MOMENTS[config.optim.optimizer] + (config.optim.ema_decay > 0)
    adapter = measured.parameters * config.lora.rank * FLOAT * copies
    latents = work.latents * math.prod(case.shape) * FLOAT
    block, evaluation = measured.evaluation.block.at(area), measured.evaluation
    kept = (evaluation.checkpointed if checkpointing else evaluation.plain).at(area)
    alive = work.widest if memory.recompute_chains else work.evaluations
    in_work = measured.backward_blocks - (0 if checkpointing else 1)  # the block in work is among the kept then
    always = {"adapter": adapter, "latents": latents}
    sampling = {**always, "working set": measured.forward_blocks * block * rollout.batch_size}
    of_a_state = {"kept for backward": kept * alive, "working set": max(0.0, in_work) * block * work.widest}
    whole = measured.weights_in_8_bits if case.in_8_bits else measured.weights
    staying = (1 - memory.offload) * whole
    free = budget - staying - measured.decoder - sum(always.values())
    N = max(1, min(work.together, int(FILLED * free / max(1.0, sum(of_a_state.values())))))
    updating = {**always, **{part: N * size for part, size in of_a_state.items()}}
    resident = min(staying, max(0.0, budget - max(sum(sampling.values()), sum(updating.values()))))
    image = min(measured.decoding.at(area), max(0.0, budget - measured.decoder - sum(always.values())))
    others = {
        "encode": {"text encoder": min(measured.text_encoder, budget)},  # the host offloads the rest
        "rollout": sampling,
        "decode": {**always, "VAE": measured.decoder, "working set": image * memory.decode_batch},
        "reward": {**always, "reward": measured.reward},
        "update": updating,
    }
    phases = {
        phase: {"weights": min(resident, max(0.0, budget - sum(parts.values()))), **parts}
        for phase, parts in others.items()
    }
    offloaded = 1 - resident / whole if whole else 0.0
    return Needs(
        phases,
        checkpointing=checkpointing,
        offloaded=offloaded,
        budget=budget,
        states=work.states,
        update_batch=N,
        pace=None if measured.seconds is None else Pace(measured.seconds, config, N, checkpointing),
    )


def with_memory(case: Case, **memory: object) -> Case:
    """`case` with other settings of memory."""
    config = case.config
    return replace(case, config=replace(config, memory=replace(config.memory, **memory)))  # pyright: ignore[reportArgumentType]
