"""The list of nodes, and the routes that the page's script reads."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import lora, policy, prompts, rewards, train
from .host import folders, routes


class PaveExtension(ComfyExtension):
    """What the host asks for."""

    async def on_load(self) -> None:
        folders.register()
        routes.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*policy.NODES, *prompts.NODES, *rewards.NODES, *train.NODES, *lora.NODES]
