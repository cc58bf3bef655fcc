"""What the page gets while a run goes on: a node's progress bar, its preview and its line of text, and the events
"pave.step" and "pave.progress"."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping

from comfy_api.latest import ComfyAPISync
from comfy_execution.progress import NodeState, get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ....pave_core.images import picture
from ....pave_core.memory.pace import Duration, in_time
from ....pave_core.runs.log import Reporter, how_far
from ....pave_core.training.metrics import StepMetrics

SENT = ("reward_mean", "reward_std", "anchor_reward", "loss", "grad_norm")
OFTEN = 0.2
"""Seconds between two events of progress beside the steps."""
WITHIN = 0.5
"""Seconds between two of progress in a step: a page without a graphics card draws nodes slowly."""
USUAL = {"rollout": 6.0, "decode": 1.0, "reward": 1.0, "update": 4.0}
"""How long the parts of the first step take beside each other, in the order in which they come, until that is known."""
LAST = 10
"""Steps that tell how long the next ones take."""


class NodeProgress(Reporter):
    """A reporter to the page. node_id: the node whose progress bar, preview and text are updated; None: none."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id
        self._api = ComfyAPISync()
        self._told = -math.inf
        self._seconds: deque[dict[str, float]] = deque(maxlen=LAST)  # by part, of the last steps
        self._expected: Duration | None = None
        self._usual: Mapping[str, float] = USUAL
        self._gain = ""
        self._at = 0.0  # the steps that are done, with the part of the one under way

    def expected(self, duration: Duration) -> None:
        self._expected = duration
        if duration.step.keys() == USUAL.keys():
            self._usual = duration.step

    def progress(self, what: str, done: int, whole: int) -> None:
        if done < whole and time.monotonic() - self._told < OFTEN:
            return
        self._told = time.monotonic()
        if self.node_id is not None and whole:
            self._api.execution.set_progress(done, whole, self.node_id, None)
        expected = "" if self._seconds or self._expected is None else self._expected.short
        self._say(self.node_id, how_far(what, done, whole), expected)
        event = {"node": self.node_id, "what": what, "done": done, "whole": whole}
        PromptServer.instance.send_sync("pave.progress", event)

    def within(self, step: int, steps: int, part: tuple[str, int, int]) -> None:
        at = step - 1 + self._share(part)
        self._at = max(at, self._at) if self._at < step else at  # a part may come a second time
        if self.node_id is None or time.monotonic() - self._told < WITHIN:
            return
        self._told = time.monotonic()
        node = self._executing()
        self._api.execution.set_progress(self._at, steps, node, None)
        self._say(node, f"step {step} of {steps}: {how_far(*part)}", self._gain, self._time(step - 1, steps))

    def _executing(self) -> str | None:
        """The node that is at work: in a graph of step nodes, another for each part of a step."""
        context = get_executing_context()
        return self.node_id if context is None else context.node_id

    def _share(self, part: tuple[str, int, int]) -> float:
        """How much of a step is done, by the seconds of the last one: from 0 to 1."""
        what, done, whole = part
        seconds = self._seconds[-1] if self._seconds else self._usual
        if what not in seconds or not sum(seconds.values()):
            return 0.0
        names = list(seconds)
        before = sum(seconds[name] for name in names[: names.index(what)])
        return (before + seconds[what] * (done / whole if whole else 0.0)) / sum(seconds.values())

    def _time(self, step: int, steps: int) -> str:
        """The time of a step, and what is left after `step` of `steps`; empty before it is known."""
        if self._seconds:
            about, each = "", sum(sum(seconds.values()) for seconds in self._seconds) / len(self._seconds)
        elif self._expected is not None:
            about, each = f"{self._expected.roughly} ", self._expected.each
        else:
            return ""
        left = None if self._expected is None else self._expected.left(step, each)
        return f"{about}{in_time(each)} a step, {in_time(each * (steps - step) if left is None else left)} left"

    def _say(self, node: str | None, *lines: str) -> None:
        """Write lines under a node's widgets, where the host can: for whoever has queued the graph."""
        server = PromptServer.instance
        if node is not None and hasattr(server, "send_progress_text"):
            shown = get_progress_state().dynprompt.get_display_node_id(node)
            server.send_progress_text("\n".join(filter(None, lines)), shown, server.client_id)

    def step(self, metrics: StepMetrics, steps: int) -> None:
        preview = picture(metrics.preview) if metrics.preview is not None else None
        if self.node_id is not None:
            self._api.execution.set_progress(metrics.step, steps, self.node_id, preview)
        self._seconds.append(metrics.seconds)
        self._say(self._executing(), f"step {metrics.step} of {steps}", self._gain, self._time(metrics.step, steps))
        seconds = sum(metrics.seconds.values())
        event = {"node": self.node_id, "step": metrics.step, "steps": steps, "seconds": seconds}
        values = {name: getattr(metrics, name) for name in SENT}
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        PromptServer.instance.send_sync("pave.step", event | numbers)

    def numbers(self, step: int, numbers: Mapping[str, float | None]) -> None:
        gain, error = (numbers.get(name) for name in ("held_out/gain", "held_out/gain_se"))
        if gain is not None and error is not None:
            self._gain = f"gain {gain:+.3g} ± {error:.2g}"

    def ended(self, text: str, *, early: bool) -> None:
        self._say(self._executing(), text.partition(":")[0], self._gain)  # there is room for three short lines


def forget_finished(prefix: str) -> None:
    """Drop the finished nodes whose ids begin with `prefix` from what the host tells the page with each event.

    It names every node that has run, so that the events of a loop would grow with its iterations. There is no public
    way to drop one; a host that keeps them elsewhere keeps them.
    """
    nodes = getattr(get_progress_state(), "nodes", {})
    for node in [node for node, entry in nodes.items() if node.startswith(prefix)]:
        if nodes[node]["state"] == NodeState.Finished:
            del nodes[node]
