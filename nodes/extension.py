"""The extension that the host loads: the list of nodes, and what is registered with the host before it is asked for."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import checks, compare, guard, lora, memory, prompts, rewards, settings, steps, tiny, train
from .host import door, folders, public_name, shutdown
from .host.graphs import queue
from .host.panel import actions, person, routes, runs, steer
from .shared.presets import preset_widgets


class PaveExtension(ComfyExtension):
    """The pack, as the host asks for it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Here and not in on_load(), which older hosts never call; the schemas below list the files of the folders.
        folders.register()
        routes.register(preset_widgets())
        runs.register()
        person.register()
        actions.register()
        steer.register()
        queue.register()
        shutdown.register()
        public_name.publish()
        parts = (tiny, prompts, rewards, guard, checks, settings, memory, train, steps, compare, lora)
        return [door.guarded(node) for part in parts for node in part.NODES]
