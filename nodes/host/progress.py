"""What a user sees while a run goes on: the node's progress bar and preview, one log line a step, and the "pave.step" event."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyAPISync
from server import PromptServer

from ...pave_core.plots import to_pil
from ...pave_core.types import StepMetrics

logger = logging.getLogger("pave")


class Progress:
    """Reports of one node. `node_id` is the node's id in the graph."""

    def __init__(self, node_id: str | None, steps: int) -> None:
        self._node_id, self._steps = node_id, steps
        self._api = ComfyAPISync()

    def step(self, metrics: StepMetrics) -> None:
        """Report a finished step."""
        seconds = sum(metrics.seconds.values())
        preview = to_pil(metrics.preview) if metrics.preview is not None else None
        if self._node_id is not None:
            self._api.execution.set_progress(metrics.step, self._steps, self._node_id, preview)
        note = " | not finite, skipped" if metrics.skipped else ""
        idle = f" | {metrics.zero_spread_groups} of {metrics.groups} groups without spread" if metrics.zero_spread_groups else ""
        logger.info(
            f"Pave-GRPO step {metrics.step}/{self._steps} | reward {metrics.reward_mean:.4f} (spread {metrics.reward_std:.4f}) | "
            f"loss {metrics.loss:+.2e} | gradient {metrics.grad_norm:.3g} | {seconds:.2f} s{idle}{note}"
        )
        event = {"node": self._node_id, "step": metrics.step, "steps": self._steps, "seconds": seconds}
        figures = ("reward_mean", "reward_std", "anchor_reward", "loss", "grad_norm")
        PromptServer.instance.send_sync("pave.step", event | {name: getattr(metrics, name) for name in figures})
