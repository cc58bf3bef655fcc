"""POSTs to a server that may be slow, broken or hostile: each is one connection, with limits of time and size.

Standard library only. No proxy of the environment is used and no redirect is followed: a request goes to the address
that was checked, or nowhere.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection, IncompleteRead

from ...errors import TrainingError, quoted
from .answers import Unscored
from .consent import is_loopback
from .endpoint import Endpoint

MAX_REPLY = 1_000_000  # bytes: as JSON of tiny lists, half a second and 30 MB
MAX_WAIT = 30.0  # seconds between two attempts, whatever the server asks for


@dataclass
class Exchange:
    """Requests to an endpoint, from any number of threads.

    Whoever waits for the threads calls cut_overdue() now and then, and stop() in the end.
    """

    endpoint: Endpoint
    _open: dict[socket.socket, float] = field(default_factory=dict)  # with the time at which its reply is due
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def cut_overdue(self) -> None:
        """End requests whose reply is overdue: a socket's own time-out never fires while bytes trickle in."""
        self._cut(time.monotonic())

    def stop(self) -> None:
        """End all requests and pauses."""
        self._stopped.set()
        self._cut(math.inf)

    def pause(self, attempt: int, asked: float | None) -> None:
        """Wait before attempt + 1: `asked` seconds if the server named a time, else the endpoint's back-off."""
        seconds = self.endpoint.back_off * 2**attempt if asked is None else asked
        if self._stopped.wait(min(seconds, MAX_WAIT)):
            raise _stopped()

    def post(self, path: str, body: bytes) -> str:
        """The text that the server answers. Unscored for a bad answer, TrainingError where there is no server."""
        deadline = time.monotonic() + self.endpoint.timeout
        connection = self._connect(path)
        sock = connection.sock
        with self._lock:
            self._open[sock] = deadline
        if self._stopped.is_set():
            self._cut(math.inf)
        try:
            connection.request("POST", self.endpoint.parts.path.rstrip("/") + path, body, self.endpoint.headers())
            response = connection.getresponse()
            data = _body(response)
        # ValueError: a TLS socket that was cut, a chunk size that is not a number
        except (OSError, HTTPException, ValueError) as error:
            if self._stopped.is_set():
                raise _stopped() from error
            if time.monotonic() >= deadline or isinstance(error, TimeoutError):
                raise self._late("reply") from error
            raise Unscored(f"a broken reply ({type(error).__name__})", "look at the server's own log") from error
        finally:
            with self._lock:
                del self._open[sock]
            connection.close()
        if time.monotonic() >= deadline:
            raise self._late("reply")
        text = self.endpoint.without_key(data.decode("utf-8", "replace"))
        if not 200 <= response.status < 300:
            place = self.endpoint.without_key(response.headers.get("Location", "nowhere"))
            raise _refusal(response.status, response.headers, place=place, text=text)
        return text

    def _connect(self, path: str) -> HTTPConnection:
        parts, url = self.endpoint.parts, self.endpoint.url(path)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.endpoint.timeout)
        try:
            connection.connect()
        except TimeoutError as error:
            raise self._late("connection") from error
        except ssl.SSLError as error:
            raise TrainingError(
                f"judge: {url} does not speak TLS ({error.reason}): use http://, or give it a valid certificate"
            ) from error
        except OSError as error:
            raise TrainingError(
                f"judge: there is no server at {url} ({error.strerror or error}): start it, or correct base_url"
            ) from error
        if self.endpoint.origin.is_loopback and not is_loopback(connection.sock.getpeername()[0]):
            connection.close()
            raise TrainingError(f"judge: {parts.hostname} of {url} is another machine: use 127.0.0.1")
        return connection

    def _cut(self, now: float) -> None:
        with self._lock:
            for sock, due in self._open.items():
                if due <= now:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def _late(self, what: str) -> Unscored:
        return Unscored(f"no {what} within {self.endpoint.timeout:g} s", "raise timeout, or lower concurrency")


def _body(response: HTTPResponse) -> bytes:
    """The bytes of a reply, MAX_REPLY at most. Unscored where there are more, IncompleteRead where some are missing."""
    declared = response.length
    data = b"" if declared is not None and declared > MAX_REPLY else response.read(MAX_REPLY + 1)
    if max(len(data), declared or 0) > MAX_REPLY:
        size = f"more than {MAX_REPLY // 1_000_000} MB"
        raise Unscored(f"a reply of {size}", "check base_url: this is not a judge", final=True)
    if declared is not None and len(data) < declared:
        raise IncompleteRead(data, declared - len(data))
    return data


def _refusal(status: int, headers: HTTPMessage, *, place: str, text: str) -> Unscored:
    """What a status that is not a success means, and whether asking again may help. place: of a redirect."""
    if 300 <= status < 400:
        remedy = "redirects are not followed: give the address itself as base_url"
        return Unscored(f"HTTP {status}, a redirect to {quoted(place)}", remedy, reply=text, final=True)
    if status in (408, 429) or status >= 500:
        asked = headers.get("Retry-After", "")
        wait = float(asked) if re.fullmatch(r"\d{1,6}", asked) else None
        remedy = "look at the server's own log, or lower concurrency"
        return Unscored(f"HTTP {status}", remedy, reply=text, retry_after=wait)
    remedy = "check the key in the variable of key_variable" if status in (401, 403) else "check base_url and model"
    return Unscored(f"HTTP {status}", remedy, reply=text, final=True)


def _stopped() -> Unscored:
    return Unscored("stopped", "run it again", final=True)
