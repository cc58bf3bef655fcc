"""What comes out: the LoRA file."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..pave_core.errors import ConfigError
from ..pave_core.recipe import save_lora
from .host import folders
from .schema import CATEGORY, LoraModel


class PaveSaveLoRA(io.ComfyNode):
    """Write a LoRA with its recipe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PaveSaveLoRA",
            display_name="Pave Save LoRA",
            category=CATEGORY,
            description="Saves the LoRA to output/loras with the whole recipe in its metadata. The stock Load LoRA node lists it after a "
            "refresh (R).",
            is_output_node=True,
            inputs=[
                LoraModel.Input("lora", tooltip="The LoRA of Pave Train."),
                io.String.Input(
                    "name",
                    default="pave_lora",
                    tooltip="The file's name, without a folder. If it is taken, a number is added: nothing is overwritten.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Where the file was written.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        try:
            if name is not None:  # it is None where it is linked
                folders.lora_file(name)
        except ConfigError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, lora: dict, name: str) -> io.NodeOutput:
        path = folders.lora_file(name)
        save_lora(path, lora)
        return io.NodeOutput(str(path), ui=ui.PreviewText(f"saved {path}"))


NODES = [PaveSaveLoRA]
