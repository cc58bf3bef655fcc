"""While a run goes on: whether it is being fooled."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pave_core.config.fields import from_shown
from ..pave_core.evaluation.guard import GuardConfig, GuardSettings
from .shared import schema
from .shared.widgets import names_of, widgets


class PaveGuard(io.ComfyNode):
    """What a run is watched by."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveGuard",
            "Pave Guard",
            "Watches a training run for reward hacking: every few steps it measures held-out images by a reward that is never "
            "trained on, how far the model has drifted from its base, and how the look of the images has changed. Beyond a "
            "threshold it stops the run or slows it down, and the best weights are what comes out.",
            terms=["reward hacking", "early stopping", "collapse", "overfitting", "best checkpoint"],
            inputs=[
                schema.Reward.Input(
                    "held_out",
                    optional=True,
                    tooltip="A reward that is not trained on, or a mix of several. Left open: the judge of the training "
                    "node.",
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
