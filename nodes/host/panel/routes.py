"""The pack's routes on the host's own server."""

from __future__ import annotations

from aiohttp import web
from server import PromptServer

from ....pave_core.config.train import PRESETS
from ...shared.presets import preset_widgets


def register() -> None:
    """GET /pave/presets: {preset name: {widget of Pave Train: value}}, for the script that fills the widgets."""

    @PromptServer.instance.routes.get("/pave/presets")
    async def presets(request: web.Request) -> web.Response:
        return web.json_response({name: preset_widgets(config) for name, config in PRESETS.items()})
