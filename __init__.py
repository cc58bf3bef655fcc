"""Pave-GRPO for ComfyUI: tune a flow model by reinforcement learning, from inside the graph that generates with it."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The pack's nodes, for the host."""
    from .nodes.extension import PaveExtension

    return PaveExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
