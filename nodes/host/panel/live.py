"""The run that trains in this process, for the page: its phase, its length, the group that was compared last, and what
was said last.

All else is in its folder. The event "pave.run" says only that there is something new, "pave.ended" what came of a run.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from server import PromptServer

from ....pave_core.runs.log import Reporter
from ....pave_core.training.metrics import Group, StepMetrics

EVENT, ENDED = "pave.run", "pave.ended"
OFTEN = 0.2
"""Seconds between two events of one run."""
MESSAGES = 200  # runs whose last message is remembered


@dataclass(frozen=True)
class Live:
    """What is known of the run that trains, besides its folder."""

    name: str
    phase: tuple[str, int, int] | None = None  # (what, done, whole)
    steps: int | None = None
    step: int | None = None  # that is complete; None before the first in this process


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
    """A reporter that keeps live() and message_of() up, and sends the event."""

    def __init__(self) -> None:
        self._run: str | None = None
        self._sent = 0.0

    def begun(self, run: str) -> None:
        self._run = run
        self._set(Live(run))

    def progress(self, what: str, done: int, whole: int) -> None:
        self._change(phase=(what, done, whole))

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
        if now or time.monotonic() - self._sent >= OFTEN:
            self._sent = time.monotonic()
            PromptServer.instance.send_sync(EVENT, {"name": self._run})
