"""LoRA files as nodes: saving them, and reading their recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io, ui

from ..pave_core.config.train import TrainConfig
from ..pave_core.files import write_atomically
from ..pave_core.images import encoded
from ..pave_core.policies.lora_file import LoraWeights, preview_file, save_lora
from ..pave_core.rollout.prompts import PromptSet
from ..pave_core.runs.recipe import config_of, load_recipe, prompts_of, recipe_text, sampling_of
from .host import folders
from .host.panel.notices import show_text
from .host.policy.settings import Picture, RolloutSettings
from .shared import schema


class PaveSaveLoRA(io.ComfyNode):
    """Write a LoRA with its recipe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveSaveLoRA",
            "Pave Save LoRA",
            "Saves the LoRA to output/loras with the whole recipe in its metadata, and shows the file's name. The "
            "stock Load LoRA node lists it after a refresh (R).",
            terms=["save weights", "export lora"],
            is_output_node=True,
            inputs=[
                schema.LoraModel.Input("lora", tooltip="The LoRA of Pave Train or Pave Finish."),
                io.String.Input(
                    "name",
                    default="pave_lora",
                    tooltip="The file's name, without a folder. If it is taken, a number is added: nothing is "
                    "overwritten.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Where the file was written.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return True if name is None else schema.checked(lambda: folders.lora_file(name))  # None where it is linked

    @classmethod
    def execute(cls, lora: dict, name: str) -> io.NodeOutput:
        path = folders.lora_file(name)
        save_lora(path, lora)
        if isinstance(lora, LoraWeights) and lora.preview is not None:
            write_atomically(preview_file(path), encoded(lora.preview, "PNG"))
        show_text(f"For Load LoRA, after R: {path.name}", cls.hidden.unique_id if cls.hidden else None)
        return io.NodeOutput(str(path), ui=ui.PreviewText(f"saved {path}"))


class PaveLoRARecipe(io.ComfyNode):
    """How a LoRA was trained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveLoRARecipe",
            "Pave LoRA Recipe",
            "Reads from a LoRA file of this pack how it was trained: as text, and as settings that go straight into "
            "training nodes.",
            terms=["metadata", "how was it trained", "settings from lora"],
            inputs=[
                io.Combo.Input(
                    "lora",
                    options=folders.loras(),
                    tooltip="A LoRA that Pave Train, Pave Finish or Pave Save LoRA wrote. Press R to refresh.",
                )
            ],
            outputs=[
                schema.LoraSettings.Output(display_name="lora_settings", tooltip="For Pave Policy."),
                schema.RolloutSettings.Output(
                    display_name="rollout", tooltip="For Pave Train (Advanced) or Pave Begin."
                ),
                schema.Objective.Output(display_name="objective", tooltip="For Pave Train (Advanced) or Pave Begin."),
                schema.Optimizer.Output(display_name="optimizer", tooltip="For Pave Train (Advanced) or Pave Begin."),
                schema.Prompts.Output(
                    display_name="prompts", tooltip="The prompts it was trained on, and those that were held out."
                ),
                io.String.Output(display_name="text", tooltip="The whole recipe, for Preview as Text."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lora: str | None = None) -> bool | str:
        return True if lora is None else schema.checked(lambda: cls._read(lora))

    @classmethod
    def fingerprint_inputs(cls, lora: str) -> float:
        return folders.lora(lora).stat().st_mtime

    @classmethod
    def execute(cls, lora: str) -> io.NodeOutput:
        recipe, config, rollout, prompts = cls._read(lora)
        return io.NodeOutput(config.lora, rollout, config.pave, config.optim, prompts, recipe_text(recipe))

    @classmethod
    def _read(cls, lora: str) -> tuple[Mapping[str, Any], TrainConfig, RolloutSettings, PromptSet]:
        """A LoRA's recipe, and the settings in it."""
        recipe = load_recipe(folders.lora(lora))
        config = config_of(recipe)
        rollout = RolloutSettings(config.rollout, Picture.of_recipe(sampling_of(recipe)))
        return recipe, config, rollout, prompts_of(recipe)


NODES = [PaveSaveLoRA, PaveLoRARecipe]
