"""Checks that MODEL, VAE, image size and sigmas suit the method."""

from __future__ import annotations

import comfy.model_sampling
import comfy.samplers
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher

from ....pave_core.errors import ConfigError
from ....pave_core.flow.schedule import check_sigmas
from .settings import Picture

MIN_FIRST_SIGMA = 0.95  # schedulers of the host begin a little below 1


def require_flow_model(model: ModelPatcher) -> None:
    """ConfigError unless MODEL is a rectified-flow model that predicts the velocity."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.CONST):
        kind = type(model.model).__name__
        raise ConfigError(
            f"model: {kind} is not a flow model: Pave-GRPO needs one that predicts a velocity (SD3 / 3.5, FLUX, "
            "Qwen-Image, Z-Image, Lumina 2, Chroma, AuraFlow, HiDream, Wan)"
        )


def compute_dtype(model: ModelPatcher) -> torch.dtype:
    """The dtype that MODEL's network computes in; that of its weights may be another."""
    return model.model.manual_cast_dtype or model.model.get_dtype()


def latent_shape(model: ModelPatcher, vae: comfy.sd.VAE, picture: Picture) -> tuple[int, ...]:
    """*S, the latent shape of an image of picture.width x picture.height.

    ConfigError if MODEL and VAE do not belong together, or the size is not a multiple of the VAE's factor.
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
    frames = (1,) if latent_format.latent_dimensions == 3 else ()
    return (latent_format.latent_channels, *frames, picture.height // factor, picture.width // factor)


def schedule(model: ModelPatcher, picture: Picture, steps: int) -> tuple[float, ...]:
    """The sigmas of MODEL as KSampler would use them, or picture.sigmas if given: T + 1 floats, T = `steps`.

    ConfigError unless they fall from at most 1 to 0; given ones must also begin at MIN_FIRST_SIGMA or above.
    """
    if picture.sigmas is None:
        sampling = model.get_model_object("model_sampling")
        return check_sigmas(comfy.samplers.calculate_sigmas(sampling, picture.scheduler, steps).tolist(), steps)
    if picture.sigmas[0] < MIN_FIRST_SIGMA:
        raise ConfigError(
            f"sigmas: they begin at {picture.sigmas[0]:.3f}: images are sampled from pure noise, which is at 1; use a "
            "scheduler with denoise 1 and the whole of its sigmas"
        )
    return check_sigmas(picture.sigmas, steps)
