"""What a run needs of a model and of where it computes: policy, decoder and surroundings, from a recipe's files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from _cuda.host import pack_module

from .recipe import Recipe, only

errors = pack_module("pave_core.errors")
ConfigError, quoted = errors.ConfigError, errors.quoted
Places = pack_module("pave_core.runs.folder").Places

PARTS = ("diffusion_model", "weight_dtype", "text_encoders", "clip_type", "vae")
WEIGHT_DTYPES = ("default", "fp8_e4m3fn", "fp8_e5m2")
REMEDY = '"files": {"diffusion_model": NAME, "text_encoders": [NAMES], "clip_type": TYPE, "vae": NAME}'


@dataclass(frozen=True)
class Parts:
    """A model that a run can be made with, and what belongs to the place where it computes."""

    policy: Any  # a RunPolicy, not entered
    decoder: Any
    compute: Callable[[str, int], Any]  # (precision, batch_size) -> where the networks of rewards compute
    reward_files: Callable[[], list[Path]]
    free: Callable[[], None]  # the caches of the device
    preflight: Callable[[Any], Callable[[Any], Any]] | None  # reward -> what begin() calls before the first gradient
    stop: Callable[[], None]  # asks the calls under way to raise as soon as they can
    check: Callable[[], None]  # raises then
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # the whole run is inside


def output_of(comfyui: Path, output: Path | None) -> Path:
    """The folder for runs and LoRAs: `output`, or that of the host, whose folders of models are made known too."""
    import folder_paths
    import utils.extra_config

    more = comfyui / "extra_model_paths.yaml"
    if more.is_file():
        utils.extra_config.load_extra_path_config(str(more))
    if output is not None:
        folder_paths.set_output_directory(str(output.resolve()))
    return Path(folder_paths.get_output_directory())


def places(output: Path) -> Any:
    """Where runs are kept below an output folder: as in the host's."""
    return Places(output / "pave", output / "loras" / "pave", Path(tempfile.gettempdir()) / "pave-grpo")


def make(recipe: Recipe) -> Parts:
    """Load the model of a recipe's files, and make its policy and decoder. ConfigError where it cannot be."""
    settings = pack_module("nodes.host.policy.settings")
    pack_module("nodes.host.folders").register()
    guidance = {
        name: recipe.sampling[name] for name in ("cfg", "negative_prompt", "guidance") if name in recipe.sampling
    }
    only("sampling", recipe.sampling, (*guidance, "width", "height", "scheduler", "frames", "sigmas"))
    rollout = settings.RolloutSettings(recipe.config.rollout, settings.Picture.of_recipe(recipe.sampling))
    make_policy = _pipeline if "diffusers" in recipe.files else _native
    policy = make_policy(recipe, settings.Guidance(**guidance))
    config = recipe.config
    made, decoder = pack_module("nodes.host.policy.make").made(
        policy, rollout.picture, seed=config.run.seed, memory=config.memory
    )

    def before(reward: Any) -> Callable[[Any], Any]:
        of_run = {"settings": policy, "rollout": rollout, "config": config, "reward": reward}
        return lambda cond: pack_module("nodes.host.preflight").preflight(made, cond, **of_run)

    return _parts(made, decoder, before if make_policy is _native else None)


def _parts(policy: Any, decoder: Any, preflight: Any) -> Parts:
    import torch

    management = pack_module("nodes.host.policy.native").comfy.model_management
    folders, host_memory = pack_module("nodes.host.folders"), pack_module("nodes.host.memory")
    visiting = pack_module("nodes.host.placement").visiting
    Compute = pack_module("pave_core.rewards.networks.compute").Compute
    return Parts(
        policy,
        decoder,
        compute=lambda precision, batch_size: Compute(visiting, precision, batch_size, host_memory.free_caches),
        reward_files=lambda: (
            [folders.reward_model("reward", name, "it") for name in folders.reward_models()]
            + [folders.reward_model("reward", name, "it", TEXTS) for name in folders.reward_models(TEXTS)]
        ),
        free=host_memory.free_caches,
        preflight=preflight,
        stop=management.interrupt_current_processing,
        check=management.throw_exception_if_processing_interrupted,
        around=torch.inference_mode,
    )


def _native(recipe: Recipe, guidance: Any) -> Any:
    """The settings of a policy on the host's own files."""
    import torch

    with torch.inference_mode():  # as the host's nodes
        model = _loaded(recipe.files)
    return pack_module("nodes.host.policy.settings").PolicySettings(*model, recipe.config.lora, guidance)


def _pipeline(recipe: Recipe, guidance: Any) -> Any:
    """The settings of a policy on a folder of models/diffusers, or on the tiny pipeline."""
    of = pack_module("nodes.host.policy.pipeline")
    only("files", recipe.files, ("diffusers", "precision"))
    name, precision = recipe.files["diffusers"], recipe.files.get("precision", "bf16")
    if not isinstance(name, str):
        raise ConfigError(f"files.diffusers: {quoted(name)} is no name: give that of a folder in models/diffusers")
    if precision not in tuple(of.DTYPES):
        raise ConfigError(f"files.precision: {quoted(precision)} is not known: choose one of {', '.join(of.DTYPES)}")
    folder = None if name == of.TINY_PIPELINE else pack_module("nodes.host.folders").pipeline(name)
    return of.PipelineSettings(folder, recipe.config.lora, guidance, of.DTYPES[precision])


TEXTS = (".txt", ".json")
"""The endings of vocabularies."""


def _loaded(files: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The host's MODEL, CLIP and VAE of a recipe's files."""
    if "bundled" in files:
        only("files", files, ("bundled",))
        return pack_module("nodes.host.tiny").load_tiny()
    import comfy.sd
    import comfy.utils
    import folder_paths

    embeddings = folder_paths.get_folder_paths("embeddings")
    if "checkpoint" in files:
        only("files", files, ("checkpoint",))
        path = _path("checkpoint", files["checkpoint"], "checkpoints")
        loaded = comfy.sd.load_checkpoint_guess_config(path, embedding_directory=embeddings)
        if not all(loaded[:3]):
            raise ConfigError(
                f"files.checkpoint: {quoted(files['checkpoint'])} lacks model, text encoder or VAE: {REMEDY}"
            )
        return loaded[0], loaded[1], loaded[2]
    only("files", files, PARTS)
    for name in ("diffusion_model", "text_encoders", "clip_type", "vae"):
        if name not in files:
            raise ConfigError(f"files.{name}: it is missing: write {REMEDY}")
    encoders, kind, dtype = files["text_encoders"], files["clip_type"], files.get("weight_dtype", "default")
    if not isinstance(encoders, list) or not encoders:
        raise ConfigError(f"files.text_encoders: {quoted(encoders)} is no list of names: write [NAME], or several")
    kinds = {each.name.lower(): each for each in comfy.sd.CLIPType}
    if kind not in kinds:
        raise ConfigError(f"files.clip_type: {quoted(kind)} is not known: choose one of {', '.join(kinds)}")
    if dtype not in WEIGHT_DTYPES:
        raise ConfigError(f"files.weight_dtype: {quoted(dtype)} is not known: choose one of {', '.join(WEIGHT_DTYPES)}")
    diffusion = _path("diffusion_model", files["diffusion_model"], "diffusion_models")
    texts = [_path("text_encoders", name, "text_encoders") for name in encoders]
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(_path("vae", files["vae"], "vae"), safe_load=True))
    vae.throw_exception_if_invalid()
    model = comfy.sd.load_diffusion_model(diffusion, model_options=_options(dtype))
    clip = comfy.sd.load_clip(ckpt_paths=texts, embedding_directory=embeddings, clip_type=kinds[kind])
    return model, clip, vae


def _options(dtype: str) -> dict[str, Any]:
    """The loader's options for a type of weights, as the host's Load Diffusion Model has them."""
    import torch

    types = {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
    return {"dtype": types[dtype]} if dtype in types else {}


def _path(field: str, name: Any, folder: str) -> str:
    """The path of a file that the host's loaders list in a folder of models. ConfigError for any other."""
    import folder_paths

    if not isinstance(name, str) or PurePath(name).is_absolute() or ".." in PurePath(name.replace("\\", "/")).parts:
        raise ConfigError(f"files.{field}: {quoted(name)} leaves models/{folder}: give the name of a file in it")
    path = folder_paths.get_full_path(folder, name) if name in folder_paths.get_filename_list(folder) else None
    if path is None:
        raise ConfigError(f"files.{field}: {quoted(name)} is not in models/{folder}: put it there, or name another")
    return path
