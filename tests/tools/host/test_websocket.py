"""The WebSocket client, against frames that a real server may send."""

import os
import socket
import threading
import time

import pytest

from _host.websocket import WebSocket, WebSocketClosedError


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
