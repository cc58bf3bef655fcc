"""The list of nodes, and the routes that the page's script reads."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import guard, lora, prompts, settings, train
from . import tiny as policy
from .host import folders, public_name
from .host.graphs import queue
from .host.panel import routes
from .rewards import judge
from .rewards import mix as rewards
from .rewards import networks as network_rewards
from .rewards import pixels as image_rewards
from .rewards import registered as registered_reward
from .steps import begin_finish as steps
from .steps import loop, scores
from .steps import preview as look


class PaveExtension(ComfyExtension):
    """What the host asks for."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Here, because older hosts never call on_load() and the schemas below list the folders' files.
        folders.register()
        routes.register()
        queue.register()
        public_name.publish()
        parts = (
            policy,
            prompts,
            rewards,
            network_rewards,
            image_rewards,
            registered_reward,
            judge,
            guard,
            settings,
            train,
            steps,
            loop,
            scores,
            look,
            lora,
        )
        return [node for part in parts for node in part.NODES]
