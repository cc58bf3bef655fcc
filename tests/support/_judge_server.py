"""A server that answers as a test wants, on the loopback interface unless it is told another, and a judge of it."""

import base64
import http.server
import io
import json
import socket
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from pave_core.rewards.http.apis import Chat
from pave_core.rewards.http.endpoint import Endpoint
from pave_core.rewards.http.replies import ParseRule
from pave_core.rewards.judge import Judge

IMAGES = torch.stack([torch.full((8, 12, 3), level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)])
PROMPTS = ["zero", "one", "two", "three", "four"]
LATE, SOON = 60.0, 15.0
"""Seconds: for how long a server here holds things up, and within which a judge that does not wait for it has ended,
on a slow machine too."""


class Request:
    """What the server was sent, and how to answer it."""

    def __init__(self, handler, closing):
        self._handler, self._closing = handler, closing
        self.path, self.headers = handler.path, handler.headers
        self.body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))

    @property
    def text(self) -> str:
        """The words of a chat."""
        return self.body["messages"][0]["content"][1]["text"]

    @property
    def image(self) -> np.ndarray:
        """The picture of a chat."""
        head, data = self.body["messages"][0]["content"][0]["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        return decoded(data)

    def raw(self, data: bytes) -> None:
        """Send these bytes and nothing else."""
        self._handler.wfile.write(data)

    def answer(self, body, status: int = 200, **headers: str) -> None:
        """Send a whole HTTP reply. body: bytes, or a value to send as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"HTTP/1.1 {status} x",
            f"Content-Length: {len(data)}",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def pause(self, seconds: float) -> None:
        """Wait, but not when the server closes: the answer then ends here."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError

    def say(self, content) -> None:
        """Send a good reply of a chat."""
        self.answer(chat(content))


def chat(content) -> dict:
    """The JSON of a good reply."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}


def decoded(data: str) -> np.ndarray:
    """The pixels of a picture in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


class Server:
    """A server that answers with `behave`. requests: all so far."""

    def __init__(self, behave, host="127.0.0.1"):
        self.requests, self._lock = [], threading.Lock()
        self._closing, self._threads = threading.Event(), []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                request = Request(self, server._closing)
                with server._lock:
                    server.requests.append(request)
                    server._threads.append(threading.current_thread())
                with suppress(OSError):  # the judge has hung up, or the server closes
                    behave(request)
                self.close_connection = True

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer((host, 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://{host}:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in (self._thread, *self._threads):
            thread.join(SOON)


def judge(url, rule=None, api=None, **options) -> Judge:
    """A judge without retries that is not patient. options: those of Endpoint and of Judge."""
    fields = ("timeout", "retries", "key_variable", "allow_remote")
    endpoint = {name: options.pop(name) for name in fields if name in options}
    made = Endpoint(url, **({"timeout": 5.0, "retries": 0, "back_off": 0.01} | endpoint))
    return Judge(made, api or Chat(rule=rule or ParseRule()), **options)


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def silent(request):
    """Answer nothing."""
    request.pause(LATE)


def trickle(request):
    """Answer with a body that comes byte by byte."""
    request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(round(10 * LATE)):
        request.raw(b" ")
        request.pause(0.1)


def trickle_headers(request):
    """Answer with headers that come byte by byte."""
    for byte in b"HTTP/1.1 200 OK\r\nA: " + b"b" * round(10 * LATE):
        request.raw(bytes([byte]))
        request.pause(0.1)


@pytest.fixture
def serve():
    """serve(behave) -> a Server; behave(request) answers."""
    servers = []

    def start(behave):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
