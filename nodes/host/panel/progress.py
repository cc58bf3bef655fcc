"""What the page gets while a run goes on: a node's progress bar and preview, and the events "pave.step" and
"pave.progress"."""

from __future__ import annotations

import math
import time

from comfy_api.latest import ComfyAPISync
from comfy_execution.progress import NodeState, get_progress_state
from server import PromptServer

from ....pave_core.images import picture
from ....pave_core.runs.log import Reporter
from ....pave_core.training.metrics import StepMetrics

SENT = ("reward_mean", "reward_std", "anchor_reward", "loss", "grad_norm")
OFTEN = 0.2
"""Seconds between two events of progress beside the steps."""


class NodeProgress(Reporter):
    """A reporter to the page. node_id: the node whose progress bar and preview are updated; None: none."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id
        self._api = ComfyAPISync()
        self._told = -math.inf

    def progress(self, what: str, done: int, whole: int) -> None:
        if done < whole and time.monotonic() - self._told < OFTEN:
            return
        self._told = time.monotonic()
        if self.node_id is not None:
            self._api.execution.set_progress(done, whole, self.node_id, None)
        event = {"node": self.node_id, "what": what, "done": done, "whole": whole}
        PromptServer.instance.send_sync("pave.progress", event)

    def step(self, metrics: StepMetrics, steps: int) -> None:
        preview = picture(metrics.preview) if metrics.preview is not None else None
        if self.node_id is not None:
            self._api.execution.set_progress(metrics.step, steps, self.node_id, preview)
        seconds = sum(metrics.seconds.values())
        event = {"node": self.node_id, "step": metrics.step, "steps": steps, "seconds": seconds}
        values = {name: getattr(metrics, name) for name in SENT}
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        PromptServer.instance.send_sync("pave.step", event | numbers)


def forget_finished(prefix: str) -> None:
    """Drop the finished nodes whose ids begin with `prefix` from what the host tells the page with each event.

    It names every node that has run, so that the events of a loop would grow with its iterations. There is no public
    way to drop one; a host that keeps them elsewhere keeps them.
    """
    nodes = getattr(get_progress_state(), "nodes", {})
    for node in [node for node, entry in nodes.items() if node.startswith(prefix)]:
        if nodes[node]["state"] == NodeState.Finished:
            del nodes[node]
