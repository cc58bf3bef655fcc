"""The routes of the panel, on the host's own server: the list of runs, one run, its pictures, and the group of images
that was compared last, of this process or of its folder. All of them only read.

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
from ....pave_core.images import thumbnail, thumbnail_of
from ....pave_core.runs import album
from ....pave_core.runs.shown import PICTURES, is_run, lines_of, picture_of, seconds_of_a_step, view_of
from ....pave_core.training.metrics import Group
from .. import folders
from .live import Live, group_of, live, message_of

RUNS = "/pave/runs"
SMALL, SMALL_BYTES = 128, 20_000
"""Of the picture of a run in the list: pixels of the longer side, and bytes."""
KEEP = {"Cache-Control": "max-age=3600"}


def register() -> None:
    """GET /pave/runs, /pave/runs/NAME, and below that preview, pictures/PICTURE, measured/STEP/PLACE, group and
    group/STEP/PLACE. Once, as of routes.register.
    """
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

    @routes.get(f"{RUNS}/{{name}}/group")
    async def get_group(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = await _read(lambda: _group(name))
        return web.json_response(found) if found is not None else _none(f"{name}/group")

    @routes.get(f"{RUNS}/{{name}}/group/{{step}}/{{place}}")
    async def get_image(request: web.Request) -> web.Response:
        name, step, place = (request.match_info[part] for part in ("name", "step", "place"))
        found = await _read(lambda: _image(name, step, place))
        if found is None:
            return _none(f"{name}/group/{step}/{place}")
        return web.Response(body=found, content_type="image/jpeg", headers=KEEP)

    @routes.get(f"{RUNS}/{{name}}/measured/{{step}}/{{place}}")
    async def get_measured(request: web.Request) -> web.StreamResponse:
        name, step, place = (request.match_info[part] for part in ("name", "step", "place"))
        found = await _read(lambda: _stored(name, album.MEASURED, step, place))
        if found is None:
            return _none(f"{name}/measured/{step}/{place}")
        return web.FileResponse(found, headers={"Content-Type": "image/jpeg", "Cache-Control": "no-cache"})

    @routes.get(f"{RUNS}/{{name}}/preview")
    async def get_preview(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = await _read(lambda: _preview(name))
        if found is None:
            return _none(f"{name}/preview")
        return web.Response(body=found, content_type="image/jpeg", headers=KEEP)


async def is_listed(name: str) -> bool:
    """Whether there is a run of this name."""
    return await _read(lambda: _folder(name)) is not None


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
    steps = view["steps"] if now is None or now.steps is None else now.steps
    phase = None if now is None or now.phase is None else dict(zip(("what", "done", "whole"), now.phase, strict=True))
    times = _times(view, now, steps) | {"lora": folders.places().lora(name).is_file()}
    group, stored = group_of(name), album.group_in(folder)
    compared = group[0] if group is not None else None if stored is None else stored["step"]
    steered = {"paused": False, "ordered": [], "obeyed": None}
    if now is not None:
        orders = now.steering.view()
        steered = {"paused": orders.paused, "ordered": list(orders.waiting), "obeyed": orders.said}
    return view | times | steered | {"steps": steps, "phase": phase, "message": message_of(name), "group": compared}


def _times(view: dict[str, Any], now: Live | None, steps: int | None) -> dict[str, Any]:
    """The seconds of a step and those that are left: as found or, before the first step, as foretold."""
    each, roughly, left = seconds_of_a_step(view["seconds"]), "about", None
    if now is not None and now.expected is not None:
        if each is None:
            each, roughly = now.expected.each, now.expected.roughly
        left = now.expected.left(view["step"], each)
    if left is None and now is not None and steps is not None and each is not None:
        left = max(0, steps - view["step"]) * each
    return {"seconds_per_step": each, "seconds_left": left, "roughly": roughly}


_asked: dict[str, tuple[int, Group]] = {}
"""{run: the group that was asked for last}, whose images are asked for next: there may be another group by then."""


def _group(name: str) -> dict[str, Any] | None:
    """The group, its images in the order of their advantages, the best first."""
    current = group_of(name)
    if current is None:
        _asked.pop(name, None)
        folder = _folder(name)
        return None if folder is None else album.group_in(folder)
    _asked.clear()
    _asked[name] = current
    return album.described(*current)


def _image(name: str, step: str, place: str) -> bytes | None:
    """An image of the group, small enough for all of them together to be below album.TOGETHER bytes."""
    current = _asked.get(name)
    if current is None:
        file = _stored(name, album.GROUP, step, place)
        return None if file is None else file.read_bytes()
    if step != str(current[0]) or not (place.isascii() and place.isdecimal()):
        return None
    images = current[1].images
    if int(place) >= len(images):
        return None
    return thumbnail(images[int(place)], album.SIDE, album.TOGETHER // len(images))


def _stored(name: str, of: str, step: str, place: str) -> Path | None:
    """The file of a small picture of a run."""
    folder = _folder(name)
    return None if folder is None else album.picture_in(folder, of, step, place)


def _preview(name: str) -> bytes | None:
    """What a run has learnt, as a picture for the list."""
    folder = _folder(name)
    file = None if folder is None else picture_of(folder, folders.places().lora(name))
    return None if file is None else thumbnail_of(file, SMALL, SMALL_BYTES)


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
