"""The end of the server while a run is under way: the run is cancelled and saved before the process ends.

Ctrl-C ends the host in good order, and Python then calls what is registered with atexit; but the host's worker thread,
in which a run goes on, is not waited for. SIGTERM, by which a service manager ends a program, would end it at once:
while a run is under way it does what Ctrl-C does.
"""

from __future__ import annotations

import atexit
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import comfy.model_management

PATIENCE = 60.0
"""The most seconds to wait for runs to be saved."""

logger = logging.getLogger("pave")
_under_way: set[int] = set()
_changed = threading.Condition()
_serial = iter(range(2**63))


def register() -> None:
    """Wait for runs at the end of the process. To be called in the main thread, once."""
    atexit.register(_wait_for_runs)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


@contextmanager
def waited_for() -> Iterator[None]:
    """Inside, a run is under way, which ends with this context once the host cancels it."""
    run = begun()
    try:
        yield
    finally:
        ended(run)


def begun() -> int:
    """A run is under way; its number, for ended()."""
    with _changed:
        run = next(_serial)
        _under_way.add(run)
    return run


def ended(run: int) -> None:
    """The run is saved. A second call does nothing."""
    with _changed:
        _under_way.discard(run)
        _changed.notify_all()


def _wait_for_runs() -> None:
    with _changed:
        waiting = set(_under_way)
        if not waiting:
            return
        logger.warning("Pave-GRPO the server ends: saving the run under way")
        deadline = time.monotonic() + PATIENCE
        while waiting & _under_way and (left := deadline - time.monotonic()) > 0:
            comfy.model_management.interrupt_current_processing()
            _changed.wait(min(left, 1.0))


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _under_way:
        raise KeyboardInterrupt  # and no SIGINT, which a shell's background programs ignore
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
