"""The micro-batches of a run: a size for its network calls with and without gradient and one for its decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..batches import SMALLER, UNLIMITED, Batches, nothing
from ..config.memory import MemoryConfig
from ..config.rollout import RolloutConfig

UPDATE_REMEDY = f"set checkpointing to on and recompute_chains in Pave Memory, lower rank, {SMALLER}"


@dataclass(frozen=True)
class RunBatches:
    """What a run has learnt about the sizes that fit."""

    rollout: Batches  # latents in a network call without gradient
    decode: Batches  # latents that the decoder takes at once
    update: Batches  # states x_k whose chains are evaluated together, with gradient

    @classmethod
    def of(
        cls,
        rollout: RolloutConfig,
        memory: MemoryConfig | None = None,
        free: Callable[[], None] = nothing,
        *,
        update: int = UNLIMITED,
    ) -> RunBatches:
        """Those of the settings. free: as in Batches. update: the size of that of the update, from a preflight."""
        memory = memory or MemoryConfig()
        return cls(
            Batches(rollout.batch_size, what="images in a network call (batch_size)", free=free),
            Batches(memory.decode_batch, what="images in the VAE (decode_batch)", free=free),
            Batches(update, what="branch steps in the update", remedy=UPDATE_REMEDY, free=free),
        )
