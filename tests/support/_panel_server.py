"""A small server for the panel's page alone: the pack's web folder as ComfyUI serves it, and the panel's routes.

The routes answer from Python dictionaries, which a test changes as it goes.
"""

from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from _person_desk import PersonDesk

WEB = Path(__file__).resolve().parents[2] / "web"
EXTENSION = "/extensions/comfyui-pave-grpo/"
TYPES = {".js": "text/javascript", ".css": "text/css"}

PALETTES = {  # the host's own values of these variables, in its dark and in its light palette
    "dark": "--fg-color:#fff;--bg-color:#202020;--comfy-menu-bg:#171718;--comfy-input-bg:#222;--input-text:#ddd;"
    "--descrip-text:#999;--border-color:#4e4e4e;--error-text:#f44",
    "light": "--fg-color:#222;--bg-color:#ddd;--comfy-menu-bg:#fff;--comfy-input-bg:#c9c9c9;--input-text:#222;"
    "--descrip-text:#444;--border-color:#888;--error-text:#f44",
}

PAGE = """<!doctype html><html><head><meta charset="utf-8"><link rel="icon" href="data:,"></head>
<body style="margin:0;font-family:Inter,system-ui,sans-serif">
<div id="sidebar" style="height:100vh;overflow-x:hidden;overflow-y:auto"></div>
<script type="module">
import { mount } from "%(extension)spanel/panel.js"
import { personDialog } from "%(extension)spanel/dialog.js"
window.listeners = new Set()
window.asked = new Set()
window.open_dialog = () => {
    window.dialog = personDialog(document.body, fetch.bind(window), () => { window.dialog = null })
}
window.done = []  // what the panel has asked of the editor
window.editor = {
    resume: async name => { done.push(["resume", name]); return window.answer ?? { said: `resume is ${name} now.` } },
    open: async (graph, name) => { done.push(["open", name, graph.nodes.length]) },
    refresh: async () => { done.push(["refresh"]) },
}
window.open_panel = () => {
    window.close_panel = mount(document.getElementById("sidebar"), {
        fetch: (path, options) => fetch(path, options),
        onEvent: listener => { listeners.add(listener); return () => listeners.delete(listener) },
        onAsked: listener => { asked.add(listener); return () => asked.delete(listener) },
        enlarge: open_dialog,
        host: window.editor,
        now: () => Date.now() + (window.later ?? 0),
    })
}
window.tell = name => listeners.forEach(listener => listener(name))
window.tell_asked = () => { asked.forEach(listener => listener()); window.dialog?.hear() }
window.ready = true
</script></body></html>"""

# What panel/mount.js imports of the host, as far as it uses it.
HOST_APP = """export const app = window.app = {
    extensions: [], tabs: [],
    registerExtension(extension) { this.extensions.push(extension) },
    extensionManager: { registerSidebarTab: tab => window.app.tabs.push(tab) },
}"""
HOST_API = """class Api extends EventTarget {
    asked = []
    fetchApi(path, options) { this.asked.push(path); return fetch(path, options) }
}
export const api = window.api = new Api()"""


def png(width: int, height: int) -> bytes:
    """A picture with a gradient, as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, 140)) for x in range(width)) for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@dataclass
class PanelServer:
    """What the routes answer, and how."""

    url: str = ""
    live: str | None = None
    runs: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    person: PersonDesk = field(default_factory=PersonDesk)
    away: bool = False
    """Whether connections are closed without an answer."""
    delays: list[float] = field(default_factory=list)
    """Seconds that the next answers take, once they are made: they are older than they come."""
    asked: list[tuple[float, str]] = field(default_factory=list)
    """(time, path) of each request to a route of the panel."""
    slow: float = 0.0
    """Seconds that an image of a group takes."""
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusal: str = ""
    """Why nothing that acts is done."""
    acted: list[tuple[str, str]] = field(default_factory=list)
    """(run, what) of each request that acts."""

    def reset(self) -> None:
        """Nothing to tell, and nothing asked yet."""
        self.__init__(self.url)

    def paths(self) -> list[str]:
        return [path for _, path in self.asked]

    def act(self, path: str) -> tuple[int, str, bytes]:
        """(status, type, body) of a request that acts."""
        *_, name, what = map(unquote, path.split("/"))
        if self.refusal:
            return 409, "application/json", json.dumps({"error": self.refusal}).encode()
        self.acted.append((name, what))
        if what == "delete":
            self.runs = [run for run in self.runs if run["name"] != name]
            self.details.pop(name, None)
        said = {"delete": {"left": ["notes.txt"]}, "copy": {"name": f"{name}.safetensors", "new": True}}
        return 200, "application/json", json.dumps(said[what]).encode()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """(status, type, body) of a route of the panel."""
        _, _, kind, *rest = path.split("/")  # "", pave, runs or person, ...
        if kind == "person" and rest:
            return 200, "image/png", png(64, 64)
        if kind == "person":
            return 200, "application/json", json.dumps(self.person.state()).encode()
        if not rest:
            return 200, "application/json", json.dumps({"live": self.live, "runs": self.runs}).encode()
        run = self.details.get(unquote(rest[0]))
        if run is None:
            error = {"error": f"there is no run {unquote(rest[0])}"}
            return 404, "application/json", json.dumps(error).encode()
        if rest[1:] == ["group"]:
            images = [{"place": i, "advantage": 1.0 - i, "scores": {"colour": 0.5}} for i in range(3)]
            group = {"step": run["group"], "prompt": f"of step {run['group']}", "images": images}
            return 200, "application/json", json.dumps(group).encode()
        if rest[1:2] == ["group"]:
            time.sleep(self.slow)
        if len(rest) >= 3 or rest[-1] == "preview":
            number = sum(map(int, rest[2:])) if rest[1] == "measured" else 0
            return 200, "image/png", png(320, 120) if rest[1] == "pictures" else png(64 + number, 64)
        if rest[-1] in ("workflow", "recipe"):
            said = {"nodes": []} if rest[-1] == "workflow" else self.recipes.get(run["name"])
            error = {"error": f"there is no {rest[-1]}"}
            return (200 if said else 404), "application/json", json.dumps(said or error).encode()
        return 200, "application/json", json.dumps(run).encode()


def _handler(server: PanelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith("/pave/"):
                server.asked.append((time.monotonic(), path))
                if server.away:
                    self.close_connection = True
                    return
                answer = server.answer(path)
                if server.delays:
                    time.sleep(server.delays.pop(0))
                self.send(*answer)
            elif path.startswith(EXTENSION):
                file = WEB / path.removeprefix(EXTENSION)
                self.send(200, TYPES[file.suffix], file.read_bytes())
            elif path in ("/scripts/app.js", "/scripts/api.js"):
                self.send(200, TYPES[".js"], (HOST_APP if path == "/scripts/app.js" else HOST_API).encode())
            elif path == "/bare":
                self.send(200, "text/html", b'<!doctype html><link rel="icon" href="data:,"><body></body>')
            else:
                self.send(200, "text/html", (PAGE % {"extension": EXTENSION}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.startswith("/pave/person/"):
                self.send(*server.person.act(self.path.rpartition("/")[2], body))
            else:
                self.send(*server.act(self.path))

        def send(self, status: int, kind: str, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the page has given this request up

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    return Handler


@contextmanager
def panel_server() -> Iterator[PanelServer]:
    """A server of the panel's page at a free port of this machine."""
    state = PanelServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
