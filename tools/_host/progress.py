"""The progress of a run, as the server's events tell it.

Standard library only: the quickstart runs this under whatever Python started it.
"""

from __future__ import annotations

from typing import Any

from .client import Event
from .terminal import LiveLine


class ProgressBar:
    """The run on one line of a terminal; elsewhere a line for each node, and one for each tenth of the training."""

    def __init__(self, prompt: dict[str, Any]):
        self._titles = {id_: node.get("_meta", {}).get("title", node["class_type"]) for id_, node in prompt.items()}
        self._line = LiveLine()
        self._tenth = -1
        self._trained = False
        self._seconds: list[float] = []

    def show(self, event: Event) -> None:
        data = event.data
        if event.kind == "pave.step":
            self._trained = True
            tenth = 10 * data["step"] // data["steps"]
            text = self._training(data)
            if self._line.live or tenth != self._tenth:
                self._line.show(text)
            self._tenth = tenth
        elif event.kind == "executing" and data.get("node") is not None:
            self._trained = False
            self._line.show(f"{self._title(data)} ...")
        elif event.kind == "progress" and self._line.live and not self._trained:
            self._line.show(f"{self._title(data)} {data['value']:.0f}/{data['max']:.0f}")

    def close(self) -> None:
        self._line.close()

    def _training(self, data: dict[str, Any]) -> str:
        """The bar after a training step; the time left comes from the last ten steps."""
        step, steps = data["step"], data["steps"]
        done = 24 * step // steps
        self._seconds = [*self._seconds[-9:], data["seconds"]]
        seconds = sum(self._seconds) / len(self._seconds)
        left = int(seconds * (steps - step))
        bar = f"[{'#' * done}{'.' * (24 - done)}] {step}/{steps}"
        reward = f"reward {data['reward_mean']:.3f} +/- {data['reward_std']:.3f}"
        return f"{bar}  {reward}  {seconds:.1f} s/step  {left // 60}:{left % 60:02} left"

    def _title(self, data: dict[str, Any]) -> str:
        return self._titles.get(data["node"], data["node"])
