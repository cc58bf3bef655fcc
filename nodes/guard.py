"""The guard as a node: it watches a run for reward hacking."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pave_core.config.fields import from_shown
from ..pave_core.evaluation.guard import GuardConfig, GuardSettings
from .shared import schema
from .shared.widgets import names_of, widgets


class PaveGuard(io.ComfyNode):
    """The guard of a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveGuard",
            "Pave Guard",
            "Watches a training run for reward hacking: every few steps it measures the held-out prompts by a reward "
            "that is never trained on, how far the model has drifted from its base, and how the look of the images has "
            "changed. Beyond a threshold it stops the run or lowers its learning rate; the LoRA has the best weights.",
            terms=["reward hacking", "early stopping", "collapse", "overfitting", "best checkpoint"],
            inputs=[
                schema.Reward.Input(
                    "held_out",
                    optional=True,
                    tooltip="A reward that is not trained on, or a mix of several. If not connected: the judge of the "
                    "training node.",
                ),
                *widgets(*names_of(GuardConfig)),
            ],
            outputs=[
                schema.Guard.Output(
                    display_name="guard", tooltip="For Pave Train, Pave Train (Advanced) or Pave Begin."
                )
            ],
        )

    @classmethod
    def execute(cls, held_out=None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(GuardSettings(from_shown(GuardConfig, values), held_out))


NODES = [PaveGuard]
