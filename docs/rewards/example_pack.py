"""A node pack that brings a reward to Pave-GRPO, in two ways.

Copy this file into custom_nodes, or what you need of it into your pack.
"""

import logging

from comfy_api.latest import ComfyExtension, io
from server import PromptServer


class Redness:
    """A reward: an object with a name. Calling it with images (N, H, W, 3) in [0, 1] and N prompts gives N numbers."""

    name = "redness"

    def __call__(self, images, prompts):
        return images[..., 0].mean((1, 2)) - images[..., 1:3].mean((1, 2, 3))


# The first way: a node of yours with an output of the type PAVE_REWARD. Nothing of Pave-GRPO is imported.
class ExampleRedness(io.ComfyNode):
    """The reward as a node."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ExampleRedness",
            display_name="Redness (Example)",
            category="Pave-GRPO",
            outputs=[io.Custom("PAVE_REWARD").Output(display_name="reward")],
        )

    @classmethod
    def execute(cls):
        return io.NodeOutput(Redness())


# The second way: a name in the drop-down of Pave Reward From Another Pack. The host loads packs in no particular order,
# so the import waits until all are loaded.
async def register_rewards(app):
    """Register the reward. The host's web server calls this when it starts."""
    try:
        from pave_core.rewards import register
    except ImportError:
        return  # Pave-GRPO is not installed
    try:
        register("redness (example pack)", Redness, "more red than green and blue")
    except ValueError as error:
        logging.getLogger(__name__).warning("the reward is not registered: %s", error)


PromptServer.instance.app.on_startup.append(register_rewards)


class ExampleExtension(ComfyExtension):
    """The pack, as the host asks for it."""

    async def get_node_list(self):
        return [ExampleRedness]


async def comfy_entrypoint():
    """The host's way into the pack."""
    return ExampleExtension()
