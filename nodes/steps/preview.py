"""A preview, as a node, of the groups that are compared while training."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..host.steps.actions import sheet
from ..host.steps.tickets import Advantages
from ..shared import schema


class PavePreviewGroup(io.ComfyNode):
    """The images of a step, sorted by reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePreviewGroup",
            "Pave Preview Group",
            "Shows the images of a step, each group sorted by reward, with reward and advantage below every image: "
            "what the model is pushed toward (green) and away from (red). Inside a loop it shows every iteration.",
            terms=["preview images", "group", "what is it learning"],
            category=schema.STEPS,
            is_output_node=True,
            inputs=[
                schema.Advantages.Input(
                    "advantages", tooltip="From Pave Advantage: the images, their scores and how they compare."
                ),
                io.Int.Input("rows", default=12, min=1, max=200, tooltip="The most groups to show."),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The picture that is shown.")],
        )

    @classmethod
    def execute(cls, advantages: Advantages, rows: int) -> io.NodeOutput:
        picture = sheet(advantages, rows)
        return io.NodeOutput(picture, ui=ui.PreviewImage(picture, cls=cls))


NODES = [PavePreviewGroup]
