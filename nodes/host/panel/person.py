"""The routes by which a person answers questions, on the host's own server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from server import PromptServer

from ....pave_core.errors import PaveError, quoted
from .acting import body_of, refused
from .desk import Draft, LateError, desk

PERSON = "/pave/person"


def register() -> None:
    """GET /pave/person (what is asked), /pave/person/KEY/PLACE (an image of it); POST /pave/person/draft, answer and
    undo. Once, as of routes.register.

    What acts answers with the new state. 409 where somebody else was first.
    """
    routes = PromptServer.instance.routes
    if any(getattr(route, "path", None) == PERSON for route in routes):
        return

    @routes.get(PERSON)
    async def get_state(request: web.Request) -> web.Response:
        return web.json_response(await _worked(desk.state))

    @routes.get(f"{PERSON}/{{key}}/{{place}}")
    async def get_image(request: web.Request) -> web.Response:
        key, place = request.match_info["key"], request.match_info["place"]
        number = int(place) if place.isascii() and place.isdecimal() and len(place) < 6 else None
        found = None if number is None else await _worked(lambda: desk.picture(key, number))
        if found is None:
            raise refused(web.HTTPNotFound, f"there is no image {quoted(f'{key}/{place}')}")
        return web.Response(body=found, content_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    @routes.post(f"{PERSON}/draft")
    async def post_draft(request: web.Request) -> web.Response:
        body = await body_of(request, {"key": str, "picked": list, "ranking": bool})
        if not all(type(place) is int for place in body["picked"]):
            raise refused(web.HTTPBadRequest, f"picked: {quoted(body['picked'])} are no numbers of images")
        return await _acted(lambda: desk.draft(body["key"], Draft(tuple(body["picked"]), body["ranking"])))

    @routes.post(f"{PERSON}/answer")
    async def post_answer(request: web.Request) -> web.Response:
        body = await body_of(request, {"key": str, "choice": dict})
        return await _acted(lambda: desk.answer(body["key"], body["choice"]))

    @routes.post(f"{PERSON}/undo")
    async def post_undo(request: web.Request) -> web.Response:
        await body_of(request, {})
        return await _acted(desk.undo)


async def _acted(act: Callable[[], str | None]) -> web.Response:
    """The state after `act`, with what it said; its refusal as an answer."""
    try:
        said = await _worked(act)
    except LateError as error:
        raise refused(web.HTTPConflict, str(error)) from None
    except PaveError as error:
        raise refused(web.HTTPBadRequest, str(error)) from None
    return web.json_response(await _worked(desk.state) | {"said": said})


async def _worked(work: Callable[[], Any]) -> Any:
    """What `work` gives, which waits for the disk and for other threads: the server goes on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, work)
