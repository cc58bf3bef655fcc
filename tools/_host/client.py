"""A client of a running ComfyUI: HTTP for questions and queueing, WebSocket for what happens meanwhile."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .websocket import WebSocket


class PromptError(RuntimeError):
    """The server refused a prompt, or a node of it failed."""


@dataclass(frozen=True)
class Event:
    """One message of the server: its type ("progress", "executing", "execution_error", "pave.step", ...) and its data.

    "idle" is the client's own: half a second without a message.
    """

    kind: str
    data: dict[str, Any]


class ComfyClient:
    """A client of the server on 127.0.0.1:port.

    In a with statement it listens from the start, so that no event of a prompt is missed.
    """

    def __init__(self, port: int):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.id = uuid.uuid4().hex
        self._socket: WebSocket | None = None

    def __enter__(self) -> ComfyClient:
        self._socket = WebSocket(self.port, f"/ws?clientId={self.id}")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._socket:
            self._socket.close()

    def get(self, path: str, **query: str) -> bytes:
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()

    def post(self, path: str, body: Any) -> bytes:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def object_info(self) -> dict[str, Any]:
        return json.loads(self.get("/object_info"))

    def version(self) -> str:
        return json.loads(self.get("/system_stats"))["system"]["comfyui_version"]

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        return self.get("/view", filename=filename, subfolder=subfolder, type=type)

    def history(self, prompt_id: str) -> dict[str, Any]:
        """What the server keeps of a finished prompt: {"outputs": {node id: ui output}, "status": ..., ...}."""
        return json.loads(self.get(f"/history/{prompt_id}"))[prompt_id]

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def queue(self, prompt: dict[str, Any], workflow: dict[str, Any] | None = None) -> str:
        """Queue a prompt in API format; `workflow`, in UI format, goes into the metadata of its images.

        Returns the prompt id. Raises PromptError with the message of every node that validation refused; the host
        itself would run the rest of the graph.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            answer = json.loads(self.post("/prompt", body))
        except urllib.error.HTTPError as error:
            raise PromptError(_refusal(json.loads(error.read()), prompt)) from None
        if answer["node_errors"]:
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            self.post("/interrupt", {"prompt_id": answer["prompt_id"]})
            raise PromptError(_refusal(answer, prompt))
        return answer["prompt_id"]

    def events(self, prompt_id: str, timeout: float | None = None) -> Iterator[Event]:
        """What the server reports from now to the end of the prompt. Binary messages (previews) are left out.

        Raises TimeoutError after `timeout` seconds, WebSocketClosed when the server goes away.
        """
        if self._socket is None:
            raise RuntimeError("the client is not open: use it in a with statement")
        deadline = None if timeout is None else time.monotonic() + timeout
        while deadline is None or time.monotonic() < deadline:
            message = self._socket.receive(timeout=0.5)
            if message is None:
                yield Event("idle", {})
            if not isinstance(message, str):
                continue
            body = json.loads(message)
            event = Event(body["type"], body.get("data") or {})
            yield event
            # This one is sent last of all, when the history has the prompt.
            last = event.kind == "executing" and event.data.get("node") is None
            if last and event.data.get("prompt_id") == prompt_id:
                return
        raise TimeoutError(f"the prompt has not ended within {timeout:g} seconds")

    def run(self, prompt: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Queue a prompt, wait for its end, return its ui outputs by node id. Raises PromptError when a node fails."""
        prompt_id = self.queue(prompt)
        for event in self.events(prompt_id, timeout):
            if event.kind == "execution_error":
                raise PromptError(failure(event))
        return self.history(prompt_id)["outputs"]


def failure(event: Event) -> str:
    """The message of an execution_error, with the node it comes from."""
    data = event.data
    return f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}"


def _refusal(answer: dict[str, Any], prompt: dict[str, Any]) -> str:
    """The messages of validation, each with its node."""
    lines = [
        f"{prompt.get(node, {}).get('class_type', '?')} (node {node}): {error['message']}: {error['details']}"
        for node, errors in (answer.get("node_errors") or {}).items()
        for error in errors["errors"]
    ]
    return "\n".join(lines) or f"{answer['error']['message']} {answer['error'].get('details', '')}".strip()
