"""What a run needs of a model and of where it computes: policy, decoder and surroundings, from a recipe's files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _cuda.host import pack_module

from .recipe import Recipe

errors = pack_module("pave_core.errors")
ConfigError, quoted = errors.ConfigError, errors.quoted
Places = pack_module("pave_core.runs.folder").Places
pipelines_in = pack_module("pave_core.policies.diffusers.folder").pipelines_in
SUFFIXES: tuple[str, ...] = pack_module("pave_core.rewards.networks.weight_files").SUFFIXES

TEXTS = (".txt", ".json")
"""The endings of vocabularies."""
REWARD_FOLDERS = ("reward_models", "clip_vision", "text_encoders")
NO_COMFYUI = "there is no ComfyUI: give --comfyui PATH, or run tools/quickstart.py, which gets one"


@dataclass(frozen=True)
class Files:
    """Where the files of models lie, and where runs and LoRAs go."""

    output: Path
    pipeline: Callable[[str], Path]  # the folder of that name in models/diffusers; ConfigError where there is none
    reward_files: Callable[[], list[Path]]
    in_comfyui: bool

    @property
    def places(self) -> Any:
        """Where runs are kept: below the output folder, as in the host's."""
        return Places(self.output / "pave", self.output / "loras" / "pave", Path(tempfile.gettempdir()) / "pave-grpo")


@dataclass(frozen=True)
class Parts:
    """A model that a run can be made with, and what belongs to the place where it computes."""

    policy: Any  # a RunPolicy, not entered
    decoder: Any
    compute: Callable[[str, int], Any]  # (precision, batch_size) -> where the networks of rewards compute
    free: Callable[[], None]  # the caches of the device
    check: Callable[[], None]  # raises where the run is to stop
    preflight: Callable[[Any], Callable[[Any], Any]] | None = None  # reward -> what begin() calls before it trains
    stop: Callable[[], None] | None = None  # asks the calls under way to raise as soon as they can
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # the whole run is inside


def files_of_comfyui(comfyui: Path, output: Path | None) -> Files:
    """The folders of a host that has been started, and `output` instead of its own if it is given."""
    import folder_paths
    import utils.extra_config

    more = comfyui / "extra_model_paths.yaml"
    if more.is_file():
        utils.extra_config.load_extra_path_config(str(more))
    if output is not None:
        folder_paths.set_output_directory(str(output.resolve()))
    folders = pack_module("nodes.host.folders")
    folders.register()

    def reward_files() -> list[Path]:
        names = [(name, kinds) for kinds in (SUFFIXES, TEXTS) for name in folders.reward_models(kinds)]
        return [folders.reward_model("reward", name, "it", kinds) for name, kinds in names]

    return Files(Path(folder_paths.get_output_directory()), folders.pipeline, reward_files, in_comfyui=True)


def files_of_folder(models: Path | None, output: Path | None) -> Files:
    """A folder that is laid out as the host's models, and `output`, or the folder "output" here."""

    def pipeline(name: str) -> Path:
        found = {} if models is None else pipelines_in([models / "diffusers"])
        if name not in found:
            where = "no folder of models is named" if models is None else f"it is not in {models / 'diffusers'}"
            raise ConfigError(
                f"files.diffusers: {quoted(name)}: {where}: give its folder by --model, or the folder that has it "
                "below diffusers by --models"
            )
        return found[name]

    def reward_files() -> list[Path]:
        folders = [] if models is None else [models / name for name in REWARD_FOLDERS]
        found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return [path for path in found if path.name.lower().endswith((*SUFFIXES, *TEXTS))]

    return Files((output or Path("output")).resolve(), pipeline, reward_files, in_comfyui=False)


def make(recipe: Recipe, files: Files, *, folder: Path | None, cpu: bool, check: Callable[[], None]) -> Parts:
    """Load the model of a recipe, and make its policy and decoder. ConfigError where it cannot be.

    folder: a pipeline to train instead of the recipe's files. check: raises where the run is to stop.
    """
    if folder is not None or recipe.of_pipeline:
        from . import pipelines

        return pipelines.make(recipe, files, folder=folder, cpu=cpu, check=check)
    if not files.in_comfyui:
        raise ConfigError(f"files: {quoted(dict(recipe.files))} are ComfyUI's, and {NO_COMFYUI}")
    from . import comfyui

    return comfyui.make(recipe)
