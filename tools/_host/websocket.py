"""A receiving WebSocket client (RFC 6455) on the standard library.

The quickstart must follow the server with whatever Python started it, so it cannot count on a package. The server's
messages are all that is needed: the only frames sent are the pong and the close.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import struct

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
PONG = 0xA


class WebSocketClosedError(ConnectionError):
    """The server closed the connection."""


class WebSocket:
    """An open connection to ws://127.0.0.1:port/path."""

    def __init__(self, port: int, path: str, timeout: float = 30.0):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._buffer = bytearray()
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise WebSocketClosedError(f"no WebSocket at {path}: {head.splitlines()[0].decode()}")
        self._buffer = bytearray(rest)

    def receive(self, timeout: float) -> str | bytes | None:
        """The next message: str for text, bytes for binary; None when nothing came within `timeout` seconds."""
        message, kind = bytearray(), 0
        while True:
            if not kind and not self._buffer and not select.select([self._socket], [], [], timeout)[0]:
                return None
            final, opcode, payload = self._frame()
            if opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                raise WebSocketClosedError("the server closed the connection")
            elif opcode in (0, TEXT, BINARY):
                kind = opcode or kind
                message += payload
                if final:
                    return message.decode() if kind == TEXT else bytes(message)

    def close(self) -> None:
        try:
            self._send(CLOSE, b"")
        except OSError:
            pass  # the server went first
        finally:
            self._socket.close()

    def _frame(self) -> tuple[bool, int, bytes]:
        first, length = self._take(2)
        length &= 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._take(8))
        return bool(first & 0x80), first & 0x0F, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _fill(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise WebSocketClosedError("the server closed the connection")
        self._buffer += data

    def _send(self, opcode: int, payload: bytes) -> None:
        # A client's frames are masked; a zero mask leaves the payload as it is. Control frames carry at most 125 bytes.
        self._socket.sendall(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)
