"""Where the pack reads and writes files, by the host's own folder_paths."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import folder_paths

from ...pave_core.errors import ConfigError, quoted
from ...pave_core.files import require_plain, safe_name
from ...pave_core.policies.diffusers.folder import INDEX, pipelines_in
from ...pave_core.rewards.networks.weight_files import SUFFIXES
from ...pave_core.runs.folder import Places, RunFolder
from ...pave_core.runs.shown import is_run

REWARD_MODELS = "reward_models"
TASTE = "taste.safetensors"
CHOOSE = "choose a file"  # what a drop-down shows while no file is chosen
MAX_PROMPT_FILE = 4_000_000
"""The most bytes of a file of prompts: ten thousand of some hundred words."""


def register() -> None:
    """Make models/reward_models known to the host, so that extra_model_paths.yaml can point it elsewhere."""
    folder_paths.add_model_folder_path(REWARD_MODELS, str(Path(folder_paths.models_dir) / REWARD_MODELS))


def reward_models(suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """The names of reward model files with one of these suffixes.

    First those in models/reward_models, then those in clip_vision and text_encoders as <folder>/<name>.
    """
    return list(_reward_models(suffixes))


def _reward_models(suffixes: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """{name as in reward_models(): (the host's name of its folder, the file's name in that folder)}."""
    found: dict[str, tuple[str, str]] = {}
    for folder, prefix in ((REWARD_MODELS, ""), ("clip_vision", "clip_vision/"), ("text_encoders", "text_encoders/")):
        for name in folder_paths.get_filename_list(folder):
            if name.lower().endswith(suffixes):
                found.setdefault(prefix + name, (folder, name))
    return found


def reward_model(field: str, name: str, advice: str, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """The path of the reward model file `name`, one of reward_models(). ConfigError if there is none.

    For its message, field: the input that names the file; advice: which file to get from where.
    """
    place = _reward_models(suffixes).get(name)
    path = folder_paths.get_full_path(*place) if place else None
    if path is None:
        chosen = (
            "no file is chosen"
            if name == CHOOSE
            else f"{quoted(name)} is not in models/{REWARD_MODELS}, clip_vision or text_encoders"
        )
        raise ConfigError(
            f"{field}: {chosen}: put {advice} into models/{REWARD_MODELS}, press R in the page to refresh, and choose "
            "it"
        )
    return Path(path)


def likely(names: list[str], parts: tuple[str, ...]) -> str | None:
    """The first of `names` that contains the first of `parts`, else the second, and so on; None if there is none.

    The case of the names does not matter; `parts` are in lower case.
    """
    return next((name for part in parts for name in names if part in name.lower()), None)


def places() -> Places:
    """Where runs are kept. Their LoRAs are in output/loras/pave, which the host's loaders list after a refresh.

    The spare place is not in the host's own temp folder, which it empties when it starts.
    """
    runs = Path(folder_paths.get_output_directory()) / "pave"
    return Places(runs, _loras() / "pave", Path(tempfile.gettempdir()) / "pave-grpo")


def resumable_runs() -> list[str]:
    """The names of runs that left a checkpoint, newest first."""
    return RunFolder.resumable(places().runs)


def tastes() -> list[str]:
    """The tastes that there are: the names of runs that learnt one, newest first, and files for reward models."""
    return list(_tastes())


def _tastes() -> dict[str, Path]:
    found = []
    with contextlib.suppress(OSError):
        for folder in places().runs.iterdir():
            file = folder / "person" / TASTE
            if is_run(folder) and file.is_file():
                found.append((file.stat().st_mtime, folder.name, file))
    named = {name: file for _, name, file in sorted(found, reverse=True)}
    files = {name: folder_paths.get_full_path(*place) for name, place in _reward_models((TASTE,)).items()}
    return named | {name: Path(path) for name, path in files.items() if path is not None}


def taste(field: str, name: str) -> Path:
    """The file of the taste `name`, one of tastes(). ConfigError about `field` if there is none."""
    path = _tastes().get(name)
    if path is None:
        raise ConfigError(
            f"{field}: there is no taste {quoted(name)}: train with Pave Person and learn switched on, or put a file "
            f"whose name ends in {TASTE} into models/{REWARD_MODELS}; press R in the page to refresh, and choose it"
        )
    return path


def lora_file(name: str) -> Path:
    """A path for a new LoRA that a user names: <name>.safetensors, or <name>_2 and so on if that is taken.

    ConfigError for a name that is not a plain file name.
    """
    return _new_file(_loras(), safe_name("name", name.removesuffix(".safetensors")), ".safetensors")


def recipe_file(name: str) -> Path:
    """A path for a new recipe, <name>.json in output/pave/recipes, otherwise as lora_file."""
    return _new_file(places().runs / "recipes", safe_name("run_name", name), ".json")


def _new_file(folder: Path, stem: str, suffix: str) -> Path:
    path = folder / f"{stem}{suffix}"
    number = 2
    while path.exists():
        path = folder / f"{stem}_{number}{suffix}"
        number += 1
    return path


def loras() -> list[str]:
    """The LoRA files that the host's loaders list."""
    return [name for name in folder_paths.get_filename_list("loras") if name.endswith(".safetensors")]


def lora(name: str) -> Path:
    """The path of the LoRA file `name`, one of loras(). ConfigError if there is none."""
    path = folder_paths.get_full_path("loras", name) if name in loras() else None
    if path is None:
        raise ConfigError(
            f"lora: {quoted(name)} is not in the LoRA folders: press R in the page to refresh, and choose one from "
            "the list"
        )
    return Path(path)


def pipelines() -> list[str]:
    """The names of the folders of diffusers pipelines in models/diffusers."""
    return sorted(_pipelines())


def _pipelines() -> dict[str, Path]:
    return pipelines_in(map(Path, folder_paths.get_folder_paths("diffusers")))


def pipeline(name: str) -> Path:
    """The folder `name`, one of pipelines(). ConfigError if there is none."""
    found = _pipelines().get(name)
    if found is None:
        raise ConfigError(
            f"pipeline: {quoted(name)} is not in models/diffusers: put the folder with its {INDEX} there, press R in "
            "the page to refresh, and choose it"
        )
    return found


def _loras() -> Path:
    return Path(folder_paths.get_output_directory()) / "loras"


def prompt_files() -> list[str]:
    """The .txt files of the input folder."""
    return sorted(path.name for path in Path(folder_paths.get_input_directory()).glob("*.txt") if path.is_file())


def read_prompt_file(name: str) -> str:
    """The text of the file `name`, one of prompt_files(). ConfigError if there is none, it is no UTF-8 or too large."""
    if name not in prompt_files():
        raise ConfigError(
            f"file: {quoted(name)} is not a .txt file of the input folder: put it there and press R in the page to "
            "refresh"
        )
    path = Path(folder_paths.get_input_directory()) / name
    require_plain(path, "file", MAX_PROMPT_FILE, "write one prompt per line, and split the file")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"file: {quoted(name)} cannot be read as UTF-8 text ({error}): save it again as UTF-8"
        ) from error
    if "\0" in text:
        raise ConfigError(f"file: {quoted(name)} holds NUL bytes, which no text has: save it again as UTF-8")
    return text


def clip_config(weights: Path) -> Path:
    """The open_clip config beside a checkpoint: <checkpoint>.json or open_clip_config.json. ConfigError without one."""
    for path in (weights.with_suffix(".json"), weights.parent / "open_clip_config.json"):
        if path.is_file():
            return path
    raise ConfigError(
        f"architecture: there is no {weights.stem}.json or open_clip_config.json beside {weights.name}: choose the "
        "architecture by name"
    )
