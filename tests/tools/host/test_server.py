"""The server as a program: what is shown when it does not start, and how it ends."""

import signal
import sys
from pathlib import Path

import pytest

from _host.server import ComfyServer, ServerError


def test_the_log_of_a_server_that_does_not_start_is_shown(comfyui, tmp_path):
    server = ComfyServer(Path(sys.executable), comfyui, tmp_path / "server.log", options=("--no-such-option",))
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-option"):
        server.start()
    assert not server.running


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_server_that_will_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("_host.server.has_accelerator", lambda python: True)
    monkeypatch.setattr(ComfyServer, "_answers", lambda self: self.log.read_bytes() == b"up")
    (tmp_path / "main.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', end='')\ntime.sleep(600)"
    )
    server = ComfyServer(Path(sys.executable), tmp_path, tmp_path / "server.log")
    server.start()
    monkeypatch.setattr("_host.server.PATIENCE", 0.5)
    server.stop()
    assert not server.running


def test_the_quickstart_ends_its_server_on_sigterm():
    from _host.server import end_on_sigterm

    before = signal.getsignal(signal.SIGTERM)
    try:
        end_on_sigterm()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
