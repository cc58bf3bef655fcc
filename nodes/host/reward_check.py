"""Pave Check Reward on the host's objects."""

from __future__ import annotations

import torch
from torch import Tensor

from ...pave_core.config.train import RunConfig, TrainConfig
from ...pave_core.evaluation.reward_check import PROMPTS, RewardCheck, check_reward
from ...pave_core.pictures.sheets import group_sheet
from ...pave_core.rollout.prompts import PromptSet
from ...pave_core.scoring.score import RewardMix
from ...pave_core.types import Reward
from .policy.native import NativeDecoder, NativePolicy, PolicySettings, RolloutSettings, SamplingSettings


def check(policy: PolicySettings, prompts: PromptSet, reward: Reward | RewardMix, rollout: RolloutSettings, seed: int) -> tuple[RewardCheck, Tensor]:
    """The check with the model as it is, and the picture of its groups (1, H, W, 3)."""
    config = TrainConfig(rollout=rollout.config, run=RunConfig(seed=seed))
    sampling = SamplingSettings.of(policy, rollout)
    with torch.inference_mode(False), NativePolicy(policy.model, policy.clip, policy.vae, sampling, lora=None) as drawing:
        conds = {prompt: drawing.encode(prompt) for prompt in prompts.train[:PROMPTS]}
        found = check_reward(drawing, NativeDecoder(policy.model, policy.vae), RewardMix.of(reward), conds, config)
    advantages = found.scores.advantages(config.pave.advantage_clip)
    sheet = group_sheet(found.images, found.prompts, found.branch_steps, found.scores.total(), advantages)
    return found, sheet.unsqueeze(0)
