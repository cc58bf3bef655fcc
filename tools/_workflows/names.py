"""What the workflows' files are called. Standard library only: the quickstart reads it under any Python.

Both front ends make a template's name, and all that their search of templates looks at, from the name of its file. That
of 1.32 looks at its first 40 letters; that of 1.49 at its words between hyphens and underscores, and wants "fine-tune"
to be near one word of them. The address that opens a template takes letters, digits, hyphens and underscores.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "workflows"

BUNDLED = (
    *("quickstart", "quickstart_taste", "you_are_the_reward", "train_advanced", "step_by_step_loop"),
    *("train_look_train", "custom_reward_graph", "train_then_generate", "generate_with_lora", "resume_training"),
    *("compare_before_after", "multi_reward_guarded", "diffusers_pipeline"),
)
REAL = (
    *("sd35_medium_8gb", "sd35_medium_12gb", "sd35_medium_24gb"),
    *("flux1_dev_12gb", "flux1_dev_16gb", "flux1_dev_24gb"),
    *("z_image_turbo_12gb", "z_image_turbo_24gb", "qwen_image_12gb", "qwen_image_24gb", "chroma_12gb", "chroma_24gb"),
)
FOUND_BY = {
    "quickstart": "quickstart_train_lora_grpo_rl_fine-tune_finetune",
    **{name: f"train_lora_{name}" for name in REAL},
}
"""{workflow: its name with the words that people look for}; the others are found by "pave" and their own names."""


def template(name: str) -> str:
    """The name under which the page lists a workflow: pave_02_quickstart_taste.

    The number is its place. Raises ValueError when there is no such workflow.
    """
    number = 1 + (*BUNDLED, *REAL).index(name)
    return f"pave_{number:02d}_{FOUND_BY.get(name, name)}"


def file_of(name: str) -> Path:
    """The file of a workflow; that for the API has the same name in the folder api/, the thumbnail ends in .jpg."""
    return FOLDER / f"{template(name)}.json"


def api_file_of(name: str) -> Path:
    """The file of a workflow for the API."""
    return FOLDER / "api" / f"{template(name)}.json"
