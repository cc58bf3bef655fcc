"""The routes of the panel, on the host's own server: the list of runs, one run, its pictures, and the group of images
that was compared last. All of them only read.

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
from ....pave_core.files import finite
from ....pave_core.images import thumbnail
from ....pave_core.runs.shown import PICTURES, is_run, lines_of, seconds_of_a_step, view_of
from ....pave_core.training.metrics import Group
from .. import folders
from .live import group_of, live, message_of

RUNS = "/pave/runs"
SIDE = 512
"""Pixels of the longer side of an image of a group, at the most."""
TOGETHER = 2_000_000
"""Bytes of the images of a group, at the most."""


def register() -> None:
    """GET /pave/runs, /pave/runs/NAME, /pave/runs/NAME/pictures/PICTURE, and of the run that trained last
    /pave/runs/NAME/group and /pave/runs/NAME/group/STEP/PLACE. Once, as of routes.register.
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
        found = _group(name)
        return web.json_response(found) if found is not None else _none(f"{name}/group")

    @routes.get(f"{RUNS}/{{name}}/group/{{step}}/{{place}}")
    async def get_image(request: web.Request) -> web.Response:
        name, step, place = (request.match_info[part] for part in ("name", "step", "place"))
        found = await _read(lambda: _image(name, step, place))
        if found is None:
            return _none(f"{name}/group/{step}/{place}")
        return web.Response(body=found, content_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})


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
    each = seconds_of_a_step(view["seconds"])
    steps = view["steps"] if now is None or now.steps is None else now.steps
    left = None if now is None or steps is None or each is None else max(0, steps - view["step"]) * each
    phase = None if now is None or now.phase is None else dict(zip(("what", "done", "whole"), now.phase, strict=True))
    times = {"seconds_per_step": each, "seconds_left": left}
    group = group_of(name)
    compared = None if group is None else group[0]
    steered = {"paused": False, "ordered": [], "obeyed": None}
    if now is not None:
        orders = now.steering.view()
        steered = {"paused": orders.paused, "ordered": list(orders.waiting), "obeyed": orders.said}
    return view | times | steered | {"steps": steps, "phase": phase, "message": message_of(name), "group": compared}


_asked: dict[str, tuple[int, Group]] = {}
"""{run: the group that was asked for last}, whose images are asked for next: there may be another group by then."""


def _group(name: str) -> dict[str, Any] | None:
    """The group, its images in the order of their advantages, the best first."""
    current = group_of(name)
    if current is None:
        return None
    _asked.clear()
    _asked[name] = current
    step, group = current
    order = sorted(range(len(group.advantages)), key=lambda i: group.advantages[i], reverse=True)
    images = [
        {
            "place": i,
            "advantage": group.advantages[i],
            "scores": finite({reward: scores[i] for reward, scores in group.scores.items()}),
        }
        for i in order
    ]
    return {"step": step, "prompt": group.prompt, "images": images}


def _image(name: str, step: str, place: str) -> bytes | None:
    """An image of the group, small enough for all of them together to be below TOGETHER bytes."""
    current = _asked.get(name)
    if current is None or step != str(current[0]) or not (place.isascii() and place.isdecimal()):
        return None
    images = current[1].images
    if int(place) >= len(images):
        return None
    return thumbnail(images[int(place)], SIDE, TOGETHER // len(images))


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
