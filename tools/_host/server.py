"""The real ComfyUI server as a program of its own on a free loopback port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

from .client import ComfyClient

ACCELERATOR = """
import sys, torch
xpu = hasattr(torch, "xpu") and torch.xpu.is_available()
sys.exit(not (torch.cuda.is_available() or torch.backends.mps.is_available() or xpu))
"""
PATIENCE = 15.0  # seconds from terminate to kill


class ServerError(RuntimeError):
    """The server did not start, or went away; the message ends with the end of its log."""


def has_accelerator(python: Path) -> bool:
    """Whether the PyTorch of `python` sees a device that ComfyUI can use."""
    return subprocess.run([str(python), "-c", ACCELERATOR], capture_output=True).returncode == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyServer:
    """`main.py` of `comfyui` under `python`, up inside a with statement, whose end ends this process and no other.

    Args:
        log: the file that gets everything that the server prints.
        base: the folder for models, custom_nodes, input, output, temp and user instead of the ComfyUI's own.
        options: more arguments for main.py.
    """

    def __init__(
        self, python: Path, comfyui: Path, log: Path, *, base: Path | None = None, options: tuple[str, ...] = ()
    ):
        self.folder = base or comfyui
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._comfyui = comfyui
        self._command = [str(python), "main.py", "--listen", "127.0.0.1", "--port", str(self.port)]
        self._command += ["--disable-auto-launch", *options]
        if base is not None:
            self._command += ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
        if not has_accelerator(python):
            self._command.append("--cpu")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def client(self) -> ComfyClient:
        return ComfyClient(self.port)

    def start(self, timeout: float = 300.0) -> None:
        """Start and wait until the server answers. Raises ServerError when it does not."""
        # A process group of its own: Ctrl-C in the terminal must reach only the caller, who then interrupts the run in
        # good order.
        group = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._comfyui,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                creationflags=group,
                start_new_session=sys.platform != "win32",
            )
        deadline = time.monotonic() + timeout
        try:
            while not self._answers():
                if not self.running:
                    code = self._process.returncode
                    raise ServerError(self.describe(f"ComfyUI ended while starting (exit code {code})"))
                if time.monotonic() > deadline:
                    raise ServerError(self.describe(f"ComfyUI did not answer within {timeout:g} seconds"))
                time.sleep(0.3)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def describe(self, problem: str) -> str:
        """`problem` with the end of the server's log."""
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return "\n".join([f"{problem}:", *(f"    {line}" for line in tail), f"The whole log: {self.log}"])

    def _answers(self) -> bool:
        try:
            self.client().version()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


def end_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit, so that `with ComfyServer` ends the server then too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
