"""What a terminal shows and takes while a tool works: a line that is rewritten in place, and Ctrl-C.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time


class LiveLine:
    """A line that is rewritten in place on a terminal; elsewhere each text is a line of its own."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        if self.live:
            text = text[: shutil.get_terminal_size().columns - 1]
            print("\r" + text.ljust(self._width), end="", flush=True)
            self._width = len(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """End the line, if there is one."""
        if self.live and self._width:
            print(flush=True)


class StatusLine:
    """How far a step is: rewritten on a terminal; elsewhere a new line now and then, so that a log stays short."""

    def __init__(self, title: str, every: float = 20.0):
        self.title = title
        self.detail = ""
        self._every = every
        self._start = time.monotonic()
        self._last = 0.0
        self._line = LiveLine()
        self.show(force=True)

    def show(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and not self._line.live and now - self._last < self._every:
            return
        self._last = now
        text = f"{self.title}: {self.detail}" if self.detail else f"{self.title} ..."
        text += f"  [{now - self._start:.0f} s]" if now - self._start >= 1 else ""
        self._line.show(text)

    def close(self, detail: str) -> None:
        self.detail = detail
        self.show(force=True)
        self._line.close()


class StopRequest:
    """Ctrl-C as a request instead of an exception, so that a run can be interrupted in good order.

    A second Ctrl-C is an exception again.
    """

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> StopRequest:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        if self.made:
            raise KeyboardInterrupt
        self.made = True
