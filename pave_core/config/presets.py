"""Named settings: of the method, and of memory by the size of the card. Nodes, workflows and docs take them from here.

"paper" is the released LoRA run of Pave-GRPO, "quick" suits the bundled tiny model on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from .adapter import LoraConfig
from .memory import Checkpointing, MemoryConfig
from .optimizer import OptimConfig
from .rollout import RolloutConfig
from .train import RunConfig, TrainConfig

PRESETS: dict[str, TrainConfig] = {
    "paper": TrainConfig(lora=LoraConfig(targets="paper")),
    "quick": TrainConfig(
        rollout=RolloutConfig(steps=8, branch_steps=(0, 2, 4), group_size=8, batch_size=64),
        lora=LoraConfig(rank=8, alpha=16, targets="attention + MLP"),
        optim=OptimConfig(learning_rate=5e-4),
        run=RunConfig(iterations=40, prompts_per_step=4, checkpoint_every=20),
    ),
}

WeightDtype = Literal["default", "fp8_e4m3fn"]
FLUX_GB = 24.0
"""The weights of FLUX.1-dev in bf16, for which a preset's share of offloaded weights is meant."""


@dataclass(frozen=True)
class MemoryPreset:
    """What trains on a card at 512 x 512. The group size, and what is learnt but for the rank, are the paper's."""

    weights: float  # GB of the model's weights on the card at most; the others are offloaded
    checkpointing: Checkpointing
    recompute_chains: bool
    batch_size: int
    decode_batch: int
    rank: int

    def weight_dtype(self, model_gb: float) -> WeightDtype:
        """The loader's weight_dtype for a model whose weights are so many GB in 16 bits."""
        return "default" if model_gb <= self.weights else "fp8_e4m3fn"

    def memory(self, weights_gb: float = FLUX_GB / 2) -> MemoryConfig:
        """The settings for a model whose weights are so many GB as they are loaded."""
        surplus = max(0.0, 1 - self.weights / weights_gb)
        offload = ceil(round(20 * surplus, 6)) / 20  # the widget's step is 0.05
        return MemoryConfig(self.checkpointing, self.recompute_chains, self.decode_batch, offload)


MEMORY_PRESETS: dict[str, MemoryPreset] = {
    "8 GB": MemoryPreset(3.5, "on", recompute_chains=True, batch_size=1, decode_batch=1, rank=8),
    "12 GB": MemoryPreset(6.0, "on", recompute_chains=False, batch_size=1, decode_batch=1, rank=16),
    "16 GB": MemoryPreset(10.0, "on", recompute_chains=False, batch_size=2, decode_batch=1, rank=16),
    "24 GB": MemoryPreset(14.0, "auto", recompute_chains=False, batch_size=4, decode_batch=4, rank=64),
}
"""By the memory of the card."""
