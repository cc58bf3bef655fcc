"""The run that trains in this process, for the page: its phase, its length, the group that was compared last, and what
was said last.

All else is in its folder. The event "pave.run" says only that there is something new, "pave.ended" what came of a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server import PromptServer

from ....pave_core.memory.pace import Duration
from ....pave_core.runs.log import Reporter
from ....pave_core.training.metrics import Group, StepMetrics
from ....pave_core.training.steering import Steering

EVENT, ENDED = "pave.run", "pave.ended"
OFTEN = 0.2
"""Seconds between two events of one run."""
MESSAGES = 200  # runs whose last message is remembered


@dataclass(frozen=True)
class Live:
    """What is known of the run that trains, besides its folder."""

    name: str
    steering: Steering
    within: Callable[[int, int, tuple[str, int, int]], None]  # Reporter.within of what shows the run
    phase: tuple[str, int, int] | None = None  # (what, done, whole)
    steps: int | None = None
    step: int | None = None  # that is complete; None before the first in this process
    expected: Duration | None = None  # as reckoned before the first step


_lock = threading.Lock()
_live: Live | None = None
_messages: dict[str, str] = {}  # by run
_compared: tuple[str, int, Group] | None = None  # (run, step, the group that was compared last), kept when the run ends


def live() -> Live | None:
    """The run that trains now; None where none does."""
    with _lock:
        return _live


def message_of(run: str) -> str | None:
    """What was said last in a run of this process."""
    with _lock:
        return _messages.get(run)


def group_of(run: str) -> tuple[int, Group] | None:
    """(step, the group that was compared in it) of the run that trained last in this process; None of another."""
    with _lock:
        return _compared[1:] if _compared is not None and _compared[0] == run else None


class LiveRun(Reporter):
    """A reporter that keeps live() and message_of() up, and sends the event. steering: the orders to the run. node:
    shows it beside this one.
    """

    def __init__(self, steering: Steering, node: Reporter) -> None:
        self._run: str | None = None
        self._sent = 0.0
        self._steering, self._node = steering, node
        steering.changed = lambda: self._tell(now=True)

    def begun(self, run: str) -> None:
        self._run = run
        self._set(Live(run, self._steering, self._within))

    def expected(self, duration: Duration) -> None:
        self._change(expected=duration)

    def progress(self, what: str, done: int, whole: int) -> None:
        self._change(phase=(what, done, whole))

    def _within(self, step: int, steps: int, part: tuple[str, int, int]) -> None:
        for shown in (self, self._node):
            shown.within(step, steps, part)

    def within(self, step: int, steps: int, part: tuple[str, int, int]) -> None:
        self._change(phase=part, steps=steps)

    def step(self, metrics: StepMetrics, steps: int) -> None:
        global _compared
        if self._run is not None and metrics.group is not None:
            with _lock:
                _compared = (self._run, metrics.step, metrics.group)
        self._change(now=True, phase=None, steps=steps, step=metrics.step)

    def numbers(self, step: int, numbers: Any) -> None:
        self._change(phase=None)

    def message(self, text: str, *, warning: bool = False) -> None:
        if self._run is None:
            return
        with _lock:
            _messages.pop(self._run, None)
            _messages[self._run] = text
            if len(_messages) > MESSAGES:
                del _messages[next(iter(_messages))]
        self._tell()

    def ended(self, text: str, *, early: bool) -> None:
        self.message(text)
        PromptServer.instance.send_sync(ENDED, {"name": self._run, "text": text, "early": early})

    def close(self) -> None:
        self._set(None)

    def _change(self, now: bool = False, **changes: Any) -> None:
        current = live()
        if current is not None and current.name == self._run:
            self._set(Live(**vars(current) | changes), now)

    def _set(self, value: Live | None, now: bool = True) -> None:
        global _live
        if self._run is None:
            return
        with _lock:
            _live = value
        self._tell(now)

    def _tell(self, now: bool = False) -> None:
        """Say that there is something new, but not too often. now: in any case, since nothing may come for a while."""
        if self._run is not None and (now or time.monotonic() - self._sent >= OFTEN):
            self._sent = time.monotonic()
            PromptServer.instance.send_sync(EVENT, {"name": self._run})
