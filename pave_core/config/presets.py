"""Named settings: "paper" is the released LoRA run of Pave-GRPO, "quick" suits the bundled tiny model on a CPU."""

from __future__ import annotations

from .adapter import LoraConfig
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
