"""The list of nodes, and the routes that the page's script reads."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import checks, compare, guard, lora, prompts, rewards, settings, steps, tiny, train
from .host import folders, public_name
from .host.graphs import queue
from .host.panel import routes
from .shared.presets import preset_widgets


class PaveExtension(ComfyExtension):
    """What the host asks for."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Here, because older hosts never call on_load() and the schemas below list the folders' files.
        folders.register()
        routes.register(preset_widgets())
        queue.register()
        public_name.publish()
        parts = (tiny, prompts, rewards, guard, checks, settings, train, steps, compare, lora)
        return [node for part in parts for node in part.NODES]
