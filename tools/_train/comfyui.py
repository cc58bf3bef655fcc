"""The host's own files, loaded by a ComfyUI that has been started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import PurePath
from typing import Any

from _cuda.host import pack_module

from .models import Parts
from .recipe import Recipe, only

errors = pack_module("pave_core.errors")
ConfigError, quoted = errors.ConfigError, errors.quoted

PARTS = ("diffusion_model", "weight_dtype", "text_encoders", "clip_type", "vae")
NEEDED = ("diffusion_model", "text_encoders", "clip_type", "vae")
OF_CHECKPOINT = ("checkpoint", "text_encoders", "clip_type", "vae")
FOLDERS = {"checkpoint": "checkpoints", "diffusion_model": "diffusion_models", "vae": "vae"}
WEIGHT_DTYPES = ("default", "fp8_e4m3fn", "fp8_e5m2")
REMEDY = '"files": {"diffusion_model": NAME, "text_encoders": [NAMES], "clip_type": TYPE, "vae": NAME}'


def make(recipe: Recipe) -> Parts:
    """As of models.make."""
    import torch

    of = pack_module("nodes.host.policy.settings")
    guidance = {
        name: recipe.sampling[name] for name in ("cfg", "negative_prompt", "guidance") if name in recipe.sampling
    }
    only("sampling", recipe.sampling, (*guidance, "width", "height", "scheduler", "frames", "sigmas"))
    config = recipe.config
    rollout = of.RolloutSettings(config.rollout, of.Picture.of_recipe(recipe.sampling))
    with torch.inference_mode():  # as the host's nodes
        model = loaded(recipe.files)
    settings = of.PolicySettings(*model, config.lora, of.Guidance(**guidance))
    policy, decoder = pack_module("nodes.host.policy.make").made(
        settings, rollout.picture, seed=config.run.seed, memory=config.memory
    )

    def preflight(reward: Any) -> Callable[[Any], Any]:
        of_run = {"settings": settings, "rollout": rollout, "config": config, "reward": reward}
        return lambda cond: pack_module("nodes.host.preflight").preflight(policy, cond, **of_run)

    management = pack_module("nodes.host.policy.native").comfy.model_management
    free = pack_module("nodes.host.memory").free_caches
    visiting = pack_module("nodes.host.placement").visiting
    Compute = pack_module("pave_core.rewards.networks.compute").Compute
    return Parts(
        policy,
        decoder,
        compute=lambda precision, batch_size: Compute(visiting, precision, batch_size, free),
        free=free,
        check=management.throw_exception_if_processing_interrupted,
        preflight=preflight,
        stop=management.interrupt_current_processing,
        around=torch.inference_mode,
    )


def loaded(files: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The host's MODEL, CLIP and VAE of a recipe's files, each as its own loader loads it."""
    if "bundled" in files:
        only("files", files, ("bundled",))
        return pack_module("nodes.host.tiny").load_tiny()
    nodes: Any = import_module("nodes")  # the host's
    whole = "checkpoint" in files
    only("files", files, OF_CHECKPOINT if whole else PARTS)
    for name in () if whole else NEEDED:
        if name not in files:
            raise ConfigError(f"files.{name}: it is missing: write {REMEDY}")
    dtype, encoders = files.get("weight_dtype", "default"), _encoders(files)
    if dtype not in WEIGHT_DTYPES:
        raise ConfigError(f"files.weight_dtype: {quoted(dtype)} is not known: choose one of {', '.join(WEIGHT_DTYPES)}")
    for name, folder in FOLDERS.items():
        if name in files:
            _path(name, files[name], folder)
    texts = [_path("text_encoders", name, "text_encoders") for name in files.get("text_encoders", [])]
    model = clip = vae = None
    if whole:
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(files["checkpoint"])[:3]
    else:
        (model,) = nodes.UNETLoader().load_unet(files["diffusion_model"], dtype)
    if encoders is not None:
        clip = encoders(texts)
    if "vae" in files:
        (vae,) = nodes.VAELoader().load_vae(files["vae"])
    found = {"diffusion_model": model, "text_encoders": clip, "vae": vae and vae.first_stage_model}
    for name, part in found.items():
        if part is None:
            raise ConfigError(f"files.checkpoint: {quoted(files['checkpoint'])} has none: name {name} beside it")
    return model, clip, vae


def _encoders(files: Mapping[str, Any]) -> Callable[[list[str]], Any] | None:
    """paths -> the CLIP of the text encoders that are named; None where none are. ConfigError for wrong values."""
    import comfy.sd
    import folder_paths

    if "text_encoders" not in files:
        only("files", files, [name for name in (*OF_CHECKPOINT, *PARTS) if name != "clip_type"])
        return None
    names, kind = files["text_encoders"], files.get("clip_type")
    if not isinstance(names, list) or not names:
        raise ConfigError(f"files.text_encoders: {quoted(names)} is no list of names: write [NAME], or several")
    kinds = {each.name.lower(): each for each in comfy.sd.CLIPType}
    if kind not in kinds:
        raise ConfigError(f"files.clip_type: {quoted(kind)} is not known: choose one of {', '.join(kinds)}")
    embeddings = folder_paths.get_folder_paths("embeddings")
    return lambda paths: comfy.sd.load_clip(ckpt_paths=paths, embedding_directory=embeddings, clip_type=kinds[kind])


def _path(field: str, name: Any, folder: str) -> str:
    """The path of a file that the host's loaders list in a folder of models. ConfigError for any other."""
    import folder_paths

    if not isinstance(name, str) or PurePath(name).is_absolute() or ".." in PurePath(name.replace("\\", "/")).parts:
        raise ConfigError(f"files.{field}: {quoted(name)} leaves models/{folder}: give the name of a file in it")
    path = folder_paths.get_full_path(folder, name) if name in folder_paths.get_filename_list(folder) else None
    if path is None:
        raise ConfigError(f"files.{field}: {quoted(name)} is not in models/{folder}: put it there, or name another")
    return path
