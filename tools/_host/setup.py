"""What a set-up step needs: a stamp that says it is done, a line that says how far it is, and a log of everything else.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .terminal import StatusLine


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what to do."""


def digest(*inputs: str) -> str:
    """A short hash of a step's inputs."""
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]


class Stamps:
    """Which steps are done, each with the hash of its inputs, in a JSON file.

    The name of a running step is in the file as well, so that the next start sees a step that was killed halfway.
    """

    RUNNING = "running"

    def __init__(self, file: Path):
        self.file = file
        self._stamps: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            self._stamps = json.loads(file.read_text(encoding="utf-8"))

    def done(self, step: str, key: str) -> bool:
        return self._stamps.get(step) == key

    @property
    def interrupted(self) -> str | None:
        """The step that was running when the last set-up was killed."""
        return self._stamps.get(self.RUNNING)

    @contextlib.contextmanager
    def running(self, step: str, key: str) -> Iterator[None]:
        """Stamp `step` when the block ends well; a SetupError leaves it undone, anything else marked as interrupted."""
        self._write({**self._stamps, self.RUNNING: step})
        try:
            yield
        except SetupError:
            self._stamps.pop(self.RUNNING)
            self._write(self._stamps)
            raise
        self._stamps.pop(self.RUNNING)
        self._write({**self._stamps, step: key})

    def _write(self, stamps: dict[str, str]) -> None:
        self._stamps = stamps
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(stamps, indent=1), encoding="utf-8")
        part.replace(self.file)


def run_step(title: str, command: list[str], log: Path) -> None:
    """Run `command` with its output in `log` and its progress on one line.

    Raises SetupError with the end of the output when the command fails.
    """
    status = StatusLine(title)
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    text: dict[str, Any] = {"text": True, "encoding": "utf-8", "errors": "replace"}
    with log.open("a", encoding="utf-8") as file, subprocess.Popen(command, **pipe, **text) as process:
        file.write(f"\n$ {subprocess.list2cmdline(command)}\n")
        assert process.stdout is not None
        reader = threading.Thread(target=_follow, args=(process.stdout, file, status), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(0.5)
            status.show()
        code = process.wait()
    if code:
        status.close("failed")
        tail = "\n".join("    " + line for line in log.read_text(encoding="utf-8").splitlines()[-12:])
        raise SetupError(f"{title} failed (exit code {code}):\n{tail}\nThe whole log: {log}")
    status.close("done")


def _follow(stream: IO[str], file: IO[str], status: StatusLine) -> None:
    for line in stream:
        file.write(line)
        status.detail = summarise(line) or status.detail
    file.flush()


def summarise(line: str) -> str:
    """What a line of pip's output means for the user; empty when it means nothing."""
    if found := re.match(r"\s*(Downloading|Using cached) (?:\S*/)?([^/\s-]+)-\S* \((.+)\)", line):
        return f"{found[1].lower()} {found[2]} ({found[3]})"
    if line.startswith("Installing collected packages:"):
        return f"installing {line.count(',') + 1} packages"
    return ""
