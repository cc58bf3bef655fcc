"""What a user sees while a run goes on: the node's progress bar and preview, one log line a step, and the "pave.step" event."""

from __future__ import annotations

import logging
import math

from comfy_api.latest import ComfyAPISync
from server import PromptServer

from ....pave_core.images import picture
from ....pave_core.types import StepMetrics

logger = logging.getLogger("pave")


class Progress:
    """Reports of one run."""

    def __init__(self) -> None:
        self._api = ComfyAPISync()

    def step(self, metrics: StepMetrics, steps: int, node_id: str | None) -> None:
        """Report a finished step of `steps`, on the node of the graph that made it."""
        seconds = sum(metrics.seconds.values())
        preview = picture(metrics.preview) if metrics.preview is not None else None
        if node_id is not None:
            self._api.execution.set_progress(metrics.step, steps, node_id, preview)
        note = " | not finite, skipped" if metrics.skipped else ""
        idle = f" | {metrics.zero_spread_groups} of {metrics.groups} groups without spread" if metrics.zero_spread_groups else ""
        unscored = f" | {metrics.unscored} images not scored" if metrics.unscored else ""
        logger.info(
            f"Pave-GRPO step {metrics.step}/{steps} | reward {metrics.reward_mean:.4f} (spread {metrics.reward_std:.4f}) | "
            f"loss {metrics.loss:+.2e} | gradient {metrics.grad_norm:.3g} | {seconds:.2f} s{idle}{unscored}{note}"
        )
        event = {"node": node_id, "step": metrics.step, "steps": steps, "seconds": seconds}
        figures = ("reward_mean", "reward_std", "anchor_reward", "loss", "grad_norm")
        values = {name: getattr(metrics, name) for name in figures}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        PromptServer.instance.send_sync("pave.step", event | finite)
