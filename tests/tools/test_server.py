"""The server and its client, with nodes of the host alone."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from _host.client import PromptError
from _host.server import ComfyServer, ServerError
from _host.websocket import WebSocket, WebSocketClosedError

IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255}}
PREVIEW = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}


def test_a_prompt_runs_and_its_image_can_be_fetched(client):
    outputs = client.run({"1": IMAGE, "2": PREVIEW}, timeout=60)
    assert client.view(**outputs["2"]["images"][0]).startswith(b"\x89PNG")


def test_events_come_in_order_and_end(client):
    prompt_id = client.queue({"1": {**IMAGE, "inputs": {**IMAGE["inputs"], "color": 7}}, "2": PREVIEW})
    kinds = [event.kind for event in client.events(prompt_id, timeout=60)]
    assert kinds.index("execution_start") < kinds.index("executed") < kinds.index("execution_success")
    assert kinds[-1] == "executing"


def test_a_refused_prompt_names_node_and_field(client):
    wrong = {**IMAGE, "inputs": {**IMAGE["inputs"], "width": -4}}
    with pytest.raises(PromptError, match=r"EmptyImage \(node 1\).*-4.*width"):
        client.queue({"1": wrong, "2": PREVIEW})


def test_a_prompt_of_which_a_part_is_refused_does_not_run(client):
    wrong = {**IMAGE, "inputs": {**IMAGE["inputs"], "width": -4}}
    with pytest.raises(PromptError, match=r"EmptyImage \(node 3\)"):
        client.queue({"1": IMAGE, "2": PREVIEW, "3": wrong, "4": {**PREVIEW, "inputs": {"images": ["3", 0]}}})


def test_a_node_that_fails_gives_its_message(server, client):
    (server.folder / "input" / "broken.png").write_bytes(b"not a picture")
    broken = {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}
    with pytest.raises(PromptError, match=r"LoadImage \(node 1\): .*broken\.png"):
        client.run({"1": broken, "2": PREVIEW}, timeout=60)


def test_the_log_of_a_server_that_does_not_start_is_shown(comfyui, tmp_path):
    server = ComfyServer(Path(sys.executable), comfyui, tmp_path / "server.log", options=("--no-such-option",))
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-option"):
        server.start()
    assert not server.running


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_server_that_will_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("_host.server.has_accelerator", lambda python: True)
    monkeypatch.setattr(ComfyServer, "_answers", lambda self: self.log.read_bytes() == b"up")
    (tmp_path / "main.py").write_text("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', end='')\ntime.sleep(600)")
    server = ComfyServer(Path(sys.executable), tmp_path, tmp_path / "server.log")
    server.start()
    monkeypatch.setattr("_host.server.PATIENCE", 0.5)
    server.stop()
    assert not server.running


def _fake_server(*frames: bytes) -> int:
    """A WebSocket server for one client, which sends these bytes and closes. Returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        # The first frame comes in the same packet as the answer to the handshake, the rest in pieces.
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + frames[0])
        for piece in b"".join(frames[1:])[:20], b"".join(frames[1:])[20:]:
            time.sleep(0.05)
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):  # the pongs
            pass
        connection.close()
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def test_websocket_frames_of_every_length():
    long, longer = b"x" * 300, os.urandom(70_000)
    port = _fake_server(
        b"\x81\x05hello",
        b"\x81\x7e" + len(long).to_bytes(2, "big") + long,
        b"\x89\x02hi",  # a ping between the parts of a message
        b"\x01\x03abc" + b"\x89\x00" + b"\x80\x03def",
        b"\x82\x7f" + len(longer).to_bytes(8, "big") + longer,
    )
    socket_ = WebSocket(port, "/ws")
    assert [socket_.receive(1.0) for _ in range(4)] == ["hello", long.decode(), "abcdef", longer]
    with pytest.raises(WebSocketClosedError):
        socket_.receive(1.0)
    socket_.close()


def test_the_quickstart_ends_its_server_on_sigterm():
    from _host.server import end_on_sigterm

    before = signal.getsignal(signal.SIGTERM)
    try:
        end_on_sigterm()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
