"""The routes of the panel, on the host's own server: the list of runs, one run, its pictures. All of them only read.

Names are those of the list: what a client sends is compared with it and never becomes a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web
from server import PromptServer

from ....pave_core.errors import quoted
from ....pave_core.runs.shown import PICTURES, is_run, lines_of, seconds_of_a_step, view_of
from .. import folders
from .live import live, message_of

RUNS = "/pave/runs"


def register() -> None:
    """GET /pave/runs, /pave/runs/NAME, and /pave/runs/NAME/pictures/PICTURE. Once, as of routes.register."""
    routes = PromptServer.instance.routes
    if any(getattr(route, "path", None) == RUNS for route in routes):
        return

    @routes.get(RUNS)
    async def get_runs(request: web.Request) -> web.Response:
        return web.json_response(await _read(_runs))

    @routes.get(f"{RUNS}/{{name}}")
    async def get_run(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = await _read(lambda: _run(name))
        return web.json_response(found) if found is not None else _none(name)

    @routes.get(f"{RUNS}/{{name}}/pictures/{{picture}}")
    async def get_picture(request: web.Request) -> web.StreamResponse:
        name, picture = request.match_info["name"], request.match_info["picture"]
        found = await _read(lambda: _picture(name, picture))
        if found is None:
            return _none(f"{name}/{picture}")
        return web.FileResponse(found, headers={"Content-Type": "image/png", "Cache-Control": "no-cache"})


async def _read(read: Callable[[], Any]) -> Any:
    """What `read` gives, which waits for the disk: the server goes on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, read)


def _none(name: str) -> web.Response:
    return web.json_response({"error": f"there is no run {quoted(name)}"}, status=404)


def _runs() -> dict[str, Any]:
    now, places = live(), folders.places()
    name = None if now is None else now.name
    return {"live": name, "runs": [asdict(line) for line in lines_of(places.runs, places.loras, name)]}


def _run(name: str) -> dict[str, Any] | None:
    folder = _folder(name)
    if folder is None:
        return None
    now = live()
    if now is not None and now.name != name:
        now = None
    view = view_of(folder, live=now is not None)
    each = seconds_of_a_step(view["seconds"])
    steps = view["steps"] if now is None or now.steps is None else now.steps
    left = None if now is None or steps is None or each is None else max(0, steps - view["step"]) * each
    phase = None if now is None or now.phase is None else dict(zip(("what", "done", "whole"), now.phase, strict=True))
    times = {"seconds_per_step": each, "seconds_left": left}
    return view | times | {"steps": steps, "phase": phase, "message": message_of(name)}


def _folder(name: str) -> Path | None:
    """The folder of the run of this name, as the list has it."""
    runs = folders.places().runs
    try:
        return next((folder for folder in runs.iterdir() if folder.name == name and is_run(folder)), None)
    except OSError:
        return None


def _picture(name: str, picture: str) -> Path | None:
    folder = _folder(name)
    if folder is None or picture not in PICTURES:
        return None
    file = folder / f"{picture}.png"
    return file if file.is_file() and not file.is_symlink() else None
