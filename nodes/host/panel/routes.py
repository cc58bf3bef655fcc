"""The pack's routes on the host's own server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from server import PromptServer

PRESETS = "/pave/presets"


def register(presets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """GET /pave/presets: {node: {preset name: {widget: value}}}, for the script that fills the widgets.

    Once: the host does not start with two, which a copy of the pack that failed to load may have left.
    """
    routes = PromptServer.instance.routes
    if any(getattr(route, "path", None) == PRESETS for route in routes):
        return

    @routes.get(PRESETS)
    async def get_presets(request: web.Request) -> web.Response:
        return web.json_response(presets)
