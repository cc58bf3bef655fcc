"""The reward check on the host's MODEL, CLIP and VAE."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...pave_core.config.train import RunConfig, TrainConfig
from ...pave_core.evaluation.reward_check import PROMPTS, RewardCheck, check_reward
from ...pave_core.objective.advantage import advantages_of
from ...pave_core.pictures.sheets import group_sheet
from ...pave_core.rollout.prompts import PromptSet
from ...pave_core.rollout.run_batches import RunBatches
from ...pave_core.runs.log import Everyone, LogLines
from ...pave_core.scoring.mix import RewardMix
from ...pave_core.types import Reward
from .memory import free_caches
from .panel.progress import NodeProgress
from .policy.make import AnySettings, made
from .policy.settings import RolloutSettings


def check(
    policy: AnySettings,
    rollout: RolloutSettings,
    *,
    prompts: PromptSet,
    reward: Reward | RewardMix,
    seed: int,
    node_id: str | None = None,
) -> tuple[RewardCheck, Tensor]:
    """(the result of the check with the model as it is, the sheet of its groups (1, H, W, 3)).

    node_id: the node that shows the progress.
    """
    told = Everyone([LogLines(), NodeProgress(node_id)])
    config = TrainConfig(rollout=rollout.config, run=RunConfig(seed=seed))
    untrained, decoder = made(replace(policy, lora=None), rollout.picture)
    batches = RunBatches.of(config.rollout, config.memory, free_caches)
    with untrained:
        conds = {prompt: untrained.encode(prompt) for prompt in prompts.train[:PROMPTS]}
        found = check_reward(
            untrained,
            decoder,
            reward=RewardMix.of(reward),
            conds=conds,
            config=config,
            batches=batches,
            progress=told.progress,
        )
    sheet = group_sheet(
        found.images,
        found.prompts,
        labels=found.labels,
        rewards=found.scores.total(),
        advantages=advantages_of(found.scores, config.pave.advantage_clip),
    )
    return found, sheet.unsqueeze(0)
