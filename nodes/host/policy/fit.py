"""Checks that MODEL, VAE, image size and sigmas suit the method."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling
import comfy.samplers
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher

from ....pave_core.errors import ConfigError
from ....pave_core.flow.schedule import check_sigmas
from .coordinates import coordinates_of
from .settings import Picture

MIN_FIRST_SIGMA = 0.95  # schedulers of the host begin a little below 1
FLOWS = (comfy.model_sampling.CONST, comfy.model_sampling.COSMOS_RFLOW)
SOME_MODELS = "SD3 / 3.5, FLUX, Qwen-Image, Z-Image, Lumina 2, Chroma, AuraFlow, HiDream, Wan, Cosmos-Predict2"

_SOUND, _SHAPES = "it makes sound", "it makes 3D shapes"
_PACKED = "it makes video and sound in one latent"
_REFINES = "it refines or enlarges an image, and does not begin from noise alone"
_ANALYSES = "it analyses images"
OTHER_TASKS = {
    "StableAudio3": _SOUND,
    "ACEStep": _SOUND,
    "ACEStep15": _SOUND,
    "MiniMaxMusic3": _SOUND,
    "Hunyuan3Dv2": _SHAPES,
    "Hunyuan3Dv2_1": _SHAPES,
    "Trellis2": _SHAPES,
    "TripoSplat": _SHAPES,
    "LTXAV": _PACKED,
    "MiniMaxH3": _PACKED,
    "SeedVR2": _REFINES,
    "PiD": _REFINES,
    "HunyuanImage21Refiner": _REFINES,
    "HunyuanVideo15_SR_Distilled": _REFINES,
    "RT_DETR_v4": _ANALYSES,
    "DepthAnything3": _ANALYSES,
    "SAM3": _ANALYSES,
}
"""{class of comfy.model_base that the host samples as a flow: why it cannot be trained on images of prompts}"""


def require_flow_model(model: ModelPatcher) -> None:
    """ConfigError unless MODEL makes images from noise and a prompt, by a velocity that depends on them alone."""
    name = name_of(model)
    sampling: Any = model.get_model_object("model_sampling")
    flow: Any = next((each for each in FLOWS if isinstance(sampling, each)), None)
    if flow is None:
        raise ConfigError(f"model: {name} is not a flow model: connect one that predicts a velocity ({SOME_MODELS})")
    if type(sampling).noise_scaling is not flow.noise_scaling:  # IMG_TO_IMG_FLOW
        raise ConfigError(
            f"model: {name} turns one image or video into another and samples nothing from noise: connect a model that "
            f"makes images from a prompt ({SOME_MODELS})"
        )
    reasons = [OTHER_TASKS[each.__name__] for each in type(model.model).__mro__ if each.__name__ in OTHER_TASKS]
    if model.model.latent_format.latent_dimensions == 1:
        reasons.append("its latents are no images")
    if reasons:
        raise ConfigError(
            f"model: {name} cannot be trained here, since {reasons[0]}: connect a model that makes images from a "
            f"prompt ({SOME_MODELS})"
        )
    if getattr(model.model.diffusion_model, "time_r_in", None) is not None:
        raise ConfigError(
            f"model: {name} is distilled by meanflow: its velocity depends also on the schedule's next step, and the "
            "finer steps of the loss are on no schedule; connect the model it was distilled from (HunyuanImage 2.1)"
        )


def name_of(model: ModelPatcher) -> str:
    """The name by which the host knows the model's architecture."""
    return type(model.model.model_config).__name__


def compute_dtype(model: ModelPatcher) -> torch.dtype:
    """The dtype that MODEL's network computes in; that of its weights may be another."""
    return model.model.manual_cast_dtype or model.model.get_dtype()


def latent_shape(model: ModelPatcher, vae: comfy.sd.VAE, picture: Picture) -> tuple[int, ...]:
    """*S, the latent shape of an image of picture.width x picture.height, or of a video of picture.frames.

    ConfigError if MODEL and VAE do not belong together, or the size does not fit the VAE's factors.
    """
    latent_format = model.model.latent_format
    if vae.latent_channels != latent_format.latent_channels:
        raise ConfigError(
            f"vae: it has {vae.latent_channels} latent channels, the model has {latent_format.latent_channels}: "
            "connect the VAE that belongs to this model"
        )
    factor = int(vae.spacial_compression_decode())  # pyright: ignore[reportArgumentType]
    for name, size in (("width", picture.width), ("height", picture.height)):
        if size < factor or size % factor:
            raise ConfigError(
                f"{name}: {size} is not a multiple of {factor}, the VAE's factor: use "
                f"{max(factor, size // factor * factor)}"
            )
    time = _latent_frames(vae, picture.frames) if latent_format.latent_dimensions == 3 else ()
    if picture.frames > 1 and not time:
        raise ConfigError(f"frames: {picture.frames}, but {type(model.model).__name__} draws images, not videos: use 1")
    return (latent_format.latent_channels, *time, picture.height // factor, picture.width // factor)


def _latent_frames(vae: comfy.sd.VAE, frames: int) -> tuple[int]:
    """The latent frames of a video: the first stands for one of its frames, each other one for `factor` of them."""
    factor = vae.temporal_compression_decode() or 1
    whole, rest = divmod(frames - 1, factor)
    if rest:
        raise ConfigError(
            f"frames: {frames} is not 1 more than a multiple of {factor}, the VAE's factor: use {whole * factor + 1} "
            f"or {(whole + 1) * factor + 1}"
        )
    return (whole + 1,)


def schedule(model: ModelPatcher, picture: Picture, steps: int) -> tuple[float, ...]:
    """The noise levels of MODEL as KSampler would use them, or picture.sigmas if given: T + 1 floats, T = `steps`.

    ConfigError unless they, in the core's coordinates, fall from at most 1 to 0; given ones must also begin at
    MIN_FIRST_SIGMA or above.
    """
    sampling: Any = model.get_model_object("model_sampling")
    levels = picture.sigmas
    if levels is None:
        levels = tuple(comfy.samplers.calculate_sigmas(sampling, picture.scheduler, steps).tolist())
    sigmas = coordinates_of(sampling).sigmas(levels)
    if picture.sigmas is not None and sigmas[0] < MIN_FIRST_SIGMA:
        raise ConfigError(
            f"sigmas: they begin at {levels[0]:.3f}: images are sampled from pure noise, which is at "
            f"{float(sampling.sigma_max):g}; use a scheduler with denoise 1 and the whole of its sigmas"
        )
    check_sigmas(sigmas, steps)
    return levels
