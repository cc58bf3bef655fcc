"""Pave-GRPO for ComfyUI: tune a flow model by reinforcement learning, from inside the graph that generates with it."""

from pathlib import Path

from .nodes.host.copies import is_second

_SECOND = is_second(Path(__file__).parent)

WEB_DIRECTORY = None if _SECOND else "./web"


async def comfy_entrypoint():
    """The pack's nodes, for the host; none where another copy has given them."""
    if _SECOND:
        from comfy_api.latest import ComfyExtension

        class NoNodes(ComfyExtension):
            async def get_node_list(self):
                return []

        return NoNodes()
    from .nodes.extension import PaveExtension

    return PaveExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
