"""Two MODELs on the same prompts and seeds."""

from __future__ import annotations

from dataclasses import replace

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...pave_core.config.rollout import RolloutConfig
from ...pave_core.evaluation.evaluate import Evaluation, evaluate
from ...pave_core.evaluation.gain import comparison_table
from ...pave_core.pictures.sheets import before_after_grid
from ...pave_core.rollout.prompts import PromptSet, encode_all
from ...pave_core.rollout.run_batches import RunBatches
from ...pave_core.runs.log import Everyone, LogLines
from ...pave_core.scoring.mix import RewardMix
from ...pave_core.types import Reward
from .memory import free_caches
from .panel.progress import NodeProgress
from .policy.decoder import NativeDecoder
from .policy.native import NativePolicy
from .policy.settings import Picture, PolicySettings


def compare(
    first: PolicySettings,
    other: ModelPatcher,
    *,
    picture: Picture,
    prompts: PromptSet,
    reward: Reward | RewardMix,
    seeds: int,
    steps: int,
    batch_size: int,
    labels: tuple[str, str],
    node_id: str | None = None,
) -> tuple[Tensor, str]:
    """(grid (1, H, W, 3), table) of two models that share CLIP, VAE and guidance, from seeds 1, 2, ...

    first: the first model, with what both share; other: the second MODEL; seeds: how many. The held-out prompts are
    used, or all where none is held out. node_id: the node that shows the progress.
    """
    mix, sampling = RewardMix.of(reward), RolloutConfig(steps=steps, branch_steps=(0,), batch_size=batch_size)

    batches = RunBatches.of(sampling, free=free_caches)
    told = Everyone([LogLines(), NodeProgress(node_id)])
    count = len(prompts.evaluated)
    told.message(f"comparing {count} prompts x {seeds} seeds = {count * seeds} images of each model")

    def measure(settings: PolicySettings) -> Evaluation:
        decoder = NativeDecoder(settings.model, settings.vae)
        with NativePolicy(replace(settings, lora=None), picture) as policy:
            policy.sigmas(steps)
            conds = encode_all(policy, prompts.evaluated, told.progress)
            return evaluate(
                policy,
                decoder,
                reward=mix,
                conds=conds,
                seeds=range(1, seeds + 1),
                config=sampling,
                batches=batches,
                progress=told.progress,
            )

    a, b = measure(first), measure(replace(first, model=other))
    return before_after_grid(a, b, labels=labels).unsqueeze(0), comparison_table(a, b, labels)
