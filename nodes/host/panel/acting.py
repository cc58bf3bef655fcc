"""Requests that act: POST with JSON of a fixed schema, from a page of this server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ....pave_core.errors import quoted

MAX_BYTES = 65_536
"""Of a request's body."""


async def body_of(request: web.Request, fields: Mapping[str, type]) -> dict[str, Any]:
    """The JSON object in a request's body, with exactly these fields, each of exactly this type.

    An HTTP error with {"error": TEXT} for another page's request (403), one that is no JSON (415), too large (413) or
    of another form (400).
    """
    if not _of_this_server(request):
        raise refused(web.HTTPForbidden, "the request does not come from a page of this server")
    if request.content_type != "application/json":
        raise refused(web.HTTPUnsupportedMediaType, "the request is not application/json")
    if (request.content_length or 0) > MAX_BYTES:
        raise _too_large()
    body = await request.content.read(MAX_BYTES + 1)
    while len(body) <= MAX_BYTES and (more := await request.content.read(MAX_BYTES + 1 - len(body))):
        body += more
    if len(body) > MAX_BYTES:
        raise _too_large()
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise refused(web.HTTPBadRequest, "the request's body is no JSON") from None
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise refused(web.HTTPBadRequest, f"the request's body must be an object with {', '.join(fields) or 'nothing'}")
    for name, kind in fields.items():
        if type(value[name]) is not kind:
            raise refused(web.HTTPBadRequest, f"{name}: {quoted(value[name])} is no {kind.__name__}")
    return value


def refused(status: type[web.HTTPException], text: str) -> web.HTTPException:
    """The answer of this status that says why, as all of the panel's routes do."""
    return status(text=json.dumps({"error": text}), content_type="application/json")


def _too_large() -> web.HTTPException:
    return web.HTTPRequestEntityTooLarge(
        MAX_BYTES,
        text=json.dumps({"error": f"the request's body has more than {MAX_BYTES} bytes"}),
        content_type="application/json",
    )


def _of_this_server(request: web.Request) -> bool:
    """By the headers that a browser adds and no page can set; a program without them acts for its user."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host
