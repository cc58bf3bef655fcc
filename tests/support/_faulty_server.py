"""A real server with the faults of _faults.py in it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from _faults import Faults, write_pack
from _host.install import link_pack
from _host.server import ComfyServer


class FaultyServer(ComfyServer):
    """A server of its own, with the pack, and with faults that the test switches on and off while it runs."""

    def __init__(self, comfyui: Path, root: Path, base: Path, *options: str, name: str = "server"):
        for folder in ("input", "models", "output"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        if not (base / "custom_nodes").exists():
            link_pack(base / "custom_nodes", root)
            write_pack(base / "custom_nodes")
        self.faults = Faults(base / f"{name}.faults")
        log = base / f"{name}.log"
        super().__init__(Path(sys.executable), comfyui, log, base=base, options=("--disable-api-nodes", *options))

    def start(self, timeout: float = 300.0) -> None:
        of_faults = {"PAVE_FAULTS": str(self.faults.file), "PAVE_FAULTS_BELOW": str(self.output)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in of_faults.items():
                patch.setenv(name, value)
            super().start(timeout)

    def wait_for_its_end(self, timeout: float = 120.0) -> int:
        """Wait until the process has ended: its exit code, negative for a signal."""
        assert self._process is not None
        return self._process.wait(timeout)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def said(self) -> str:
        """The log so far."""
        return self.log.read_text("utf-8", errors="replace")

    def wait_for(self, what: str, timeout: float = 120.0) -> None:
        """Wait until a line of the faults' log has `what` in it."""
        deadline = time.monotonic() + timeout
        while not any(what in line for line in self.faults.lines()):
            assert time.monotonic() < deadline, f"{what} did not come: {self.said()[-2000:]}"
            assert self.running, self.said()[-2000:]
            time.sleep(0.02)

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue a graph, and do not wait for it."""
        return self.client().queue(graph)
