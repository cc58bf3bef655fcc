"""The prompts to train on, as a node."""

from __future__ import annotations

from comfy_api.latest import io

from ..pave_core.rollout.prompts import parse_prompts, split_prompts
from .host import folders
from .shared import schema

NO_FILE = "none"


class PavePrompts(io.ComfyNode):
    """Prompts from text or a file, with a part held out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePrompts",
            "Pave Prompts",
            terms=["prompt list", "text file", "held out"],
            description="The prompts to train on, one per line. Some of them are held out: never trained on, but used "
            "to measure whether what is learnt carries over to other prompts.",
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a red circle on a dark background\na blue star on a light background",
                    tooltip="One prompt per line. Blank lines and lines that begin with # are skipped.",
                ),
                io.Combo.Input(
                    "file",
                    options=[NO_FILE, *folders.prompt_files()],
                    default=NO_FILE,
                    tooltip="A .txt file in the input folder, one prompt per line; added to the text above.",
                ),
                io.Float.Input(
                    "held_out",
                    default=0.2,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    tooltip="The fraction of the prompts that is kept for evaluation. With 0, or a single prompt, the "
                    "training prompts are evaluated.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Chooses which prompts are held out.",
                ),
            ],
            outputs=[schema.Prompts.Output(display_name="prompts", tooltip="The prompts, for Pave Train.")],
        )

    @classmethod
    def validate_inputs(cls, text: str | None = None, file: str | None = None) -> bool | str:
        if text is None or file is None:  # linked
            return True
        return schema.checked(lambda: split_prompts(cls._read(text, file), 0.0, 0))

    @classmethod
    def fingerprint_inputs(cls, text: str, file: str, held_out: float, seed: int) -> list[str]:
        return cls._read(text, file)

    @classmethod
    def execute(cls, text: str, file: str, held_out: float, seed: int) -> io.NodeOutput:
        return io.NodeOutput(split_prompts(cls._read(text, file), held_out, seed))

    @classmethod
    def _read(cls, text: str, file: str) -> list[str]:
        return parse_prompts(text if file == NO_FILE else f"{text}\n{folders.read_prompt_file(file)}")


NODES = [PavePrompts]
