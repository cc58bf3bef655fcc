"""Orders to a run under way: others put them in, and the run acts on them at its next network call.

    order(), view()    from any thread, such as a server's; they never wait for the run
    check()            by the run, before each call of a network: where Cancel is let in as well

Nothing is polled but a list that is empty, so that a run that nobody steers is as it would be without. A run that is
paused waits inside check(). The clock stands still while an order is acted on: it is no time of any part of a step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from ..batches import nothing
from ..errors import ConfigError

Order = Literal["pause", "go on", "save", "evaluate", "halve", "finish"]
ORDERS: tuple[Order, ...] = get_args(Order)
WAKE = 0.1
"""Seconds after which a run that is paused looks for Cancel."""


class StepDroppedError(BaseException):
    """The step under way is dropped, as the run is to be finished. Not an Exception, which others may handle."""


@dataclass(frozen=True)
class View:
    """What others see of the orders."""

    paused: bool
    waiting: tuple[Order, ...]  # ordered, and not done yet
    said: str | None  # what was done last, in words


class Steering:
    """The orders to one run. check: the host's, which raises where the user cancels, also while the run is paused."""

    def __init__(self, check: Callable[[], None] = nothing) -> None:
        self.act: Callable[[Order], bool] = self._keep_for_later
        """The run's: acts on an order; False where it has to wait. Of "pause" and "go on" it is only told."""
        self.changed: Callable[[], None] = nothing
        """Is called, in any thread, when view() has changed."""
        self.said: str | None = None
        self.early: list[Order] = []  # what was done before there was a run that acts
        self._check = check
        self._changing = threading.Condition()
        self._waiting: list[Order] = []
        self._acting: list[Order] = []  # those of them that are being acted on
        self._paused = self._ended = False
        self._busy = 0
        self._stopped_at: float | None = None  # where the clock stands still
        self._away = 0.0

    def order(self, order: Order) -> None:
        """Put an order in. ConfigError where there is nothing to do for it, or it has been given already."""
        with self._changing:
            last = next((each for each in reversed(self._waiting) if each in ("pause", "go on")), None)
            paused = self._paused if last is None else last == "pause"
            if self._ended:
                raise ConfigError("order: the run has ended")
            if order == "pause" and paused:
                raise ConfigError("order: the run is paused already")
            if order == "go on" and not paused:
                raise ConfigError("order: the run is not paused")
            if order in self._waiting and order not in ("pause", "go on"):
                raise ConfigError(f"order: {order} has been ordered already, and is not done yet")
            self._waiting.append(order)
            self._changing.notify_all()
        self.changed()

    def view(self) -> View:
        """What stands."""
        with self._changing:
            return View(self._paused, tuple(self._waiting), self.said)

    def check(self) -> None:
        """Let Cancel in, and act on what was ordered."""
        self._check()
        if self._waiting:
            with self._clock_stands():
                self._obey()

    def end(self) -> None:
        """The run has ended: nothing is acted on any more."""
        with self._changing:
            self._ended, self._paused = True, False
            self._waiting.clear()
        self.changed()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Inside, the network is not free for anything else: for a gradient, or without its adapter."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    @property
    def free(self) -> bool:
        """Whether the network can be used for what is ordered."""
        return not self._busy

    def clock(self) -> float:
        """The seconds of time.perf_counter(), less those in which orders were acted on."""
        return (self._stopped_at or time.perf_counter()) - self._away

    def _obey(self, pausing: bool = False) -> None:
        """Act on all that is waiting, as far as it can be done here. pausing: whether the caller waits while paused."""
        put_off: list[Order] = []
        while (order := self._next(put_off)) is not None:
            if order == "pause":
                self._paused = True
                self.act(order)
                self._done(order)
                if not pausing:
                    self._wait()
                continue
            if order in ("go on", "finish"):
                self._paused = False
            self._acting.append(order)
            done = True
            try:
                done = self.act(order)
            finally:
                self._acting.remove(order)
                if done:
                    self._done(order)
            if not done:
                put_off.append(order)

    def _next(self, put_off: list[Order]) -> Order | None:
        with self._changing:
            return next((each for each in self._waiting if each not in (*put_off, *self._acting)), None)

    def _done(self, order: Order) -> None:
        with self._changing:
            if order in self._waiting:  # which end() empties
                self._waiting.remove(order)
        self.changed()

    def _wait(self) -> None:
        """Wait until the run is to go on. What else is ordered meanwhile is done meanwhile."""
        try:
            while self._paused:
                self._check()
                self._obey(pausing=True)
                with self._changing:
                    if self._paused:
                        self._changing.wait(WAKE)
        finally:
            self._paused = False

    def _keep_for_later(self, order: Order) -> bool:
        """Before there is a run, it can only be paused."""
        if order not in ("pause", "go on"):
            return False
        self.early.append(order)
        return True

    @contextmanager
    def _clock_stands(self) -> Iterator[None]:
        if self._stopped_at is not None:
            yield
            return
        self._stopped_at = time.perf_counter()
        try:
            yield
        finally:
            self._away += time.perf_counter() - self._stopped_at
            self._stopped_at = None
