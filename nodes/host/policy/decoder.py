"""A host VAE as the core's Decoder."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .coordinates import coordinates_of

logger = logging.getLogger("pave")

VIDEO = 5
"""The axes of decoded videos: (B, T, H, W, 3)."""


class NativeDecoder:
    """A host VAE as the core's Decoder, with the latent format of `model`. Of a video it gives the middle frame."""

    def __init__(self, model: ModelPatcher, vae: comfy.sd.VAE) -> None:
        self._coordinates = coordinates_of(model.get_model_object("model_sampling"))
        self._process_out = model.model.process_latent_out
        self._vae = vae
        self._said_frame = False

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) fp32 in [0, 1] on the CPU, tiled only if memory requires it.

        Raises the host's interruption if the user pressed Cancel.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        with torch.inference_mode():
            images = self._vae.decode(self._process_out(self._coordinates.latent(latents)))
        if images.ndim == VIDEO:
            images = self._middle_frame(images)
        return images[..., :3].to("cpu", torch.float32, copy=True)

    def _middle_frame(self, videos: Tensor) -> Tensor:
        """videos (B, T, H, W, C) -> (B, H, W, C). The first time that T is more than 1, it is logged."""
        frames = videos.shape[1]
        middle = frames // 2
        if frames > 1 and not self._said_frame:
            self._said_frame = True
            logger.info(
                f"Pave-GRPO: each video has {frames} frames; rewards and pictures see the middle one, number "
                f"{middle + 1}"
            )
        return videos[:, middle]
