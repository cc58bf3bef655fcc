"""The pack's routes on the host's own server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from server import PromptServer


def register(presets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """GET /pave/presets: {node: {preset name: {widget: value}}}, for the script that fills the widgets."""

    @PromptServer.instance.routes.get("/pave/presets")
    async def get_presets(request: web.Request) -> web.Response:
        return web.json_response(presets)
