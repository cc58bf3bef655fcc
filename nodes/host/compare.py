"""Two MODELs on the same prompts and seeds."""

from __future__ import annotations

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...pave_core.config.train import RolloutConfig
from ...pave_core.evaluation.evaluate import Evaluation, comparison_table, evaluate
from ...pave_core.pictures.sheets import before_after_grid
from ...pave_core.rollout.prompts import PromptSet
from ...pave_core.scoring.score import RewardMix
from ...pave_core.types import Reward
from .policy.native import NativeDecoder, NativePolicy, SamplingSettings


def compare(
    models: tuple[ModelPatcher, ModelPatcher],
    clip: comfy.sd.CLIP,
    vae: comfy.sd.VAE,
    prompts: PromptSet,
    reward: Reward | RewardMix,
    seeds: int,
    steps: int,
    batch_size: int,
    sampling: SamplingSettings,
    labels: tuple[str, str],
) -> tuple[Tensor, str]:
    """(grid (1, H, W, 3), table) of the held-out prompts, or all where none is held out, from seeds 1, 2, ..."""
    mix, drawing = RewardMix.of(reward), RolloutConfig(steps=steps, branch_steps=(0,), batch_size=batch_size)

    def measure(model: ModelPatcher) -> Evaluation:
        with torch.inference_mode(False), NativePolicy(model, clip, vae, sampling, lora=None) as policy:
            conds = {prompt: policy.encode(prompt) for prompt in prompts.evaluated}
            return evaluate(policy, NativeDecoder(model, vae), mix, None, None, conds, range(1, seeds + 1), drawing)

    first, second = (measure(model) for model in models)
    return before_after_grid(first, second, labels=labels).unsqueeze(0), comparison_table(first, second, labels)
