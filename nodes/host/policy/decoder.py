"""A host VAE as the core's Decoder."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .coordinates import coordinates_of


class NativeDecoder:
    """A host VAE as the core's Decoder, with the latent format of `model`."""

    def __init__(self, model: ModelPatcher, vae: comfy.sd.VAE) -> None:
        self._coordinates = coordinates_of(model.get_model_object("model_sampling"))
        self._process_out = model.model.process_latent_out
        self._vae = vae

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) fp32 in [0, 1] on the CPU, tiled only if memory requires it.

        Raises the host's interruption if the user pressed Cancel.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        with torch.inference_mode():
            images = self._vae.decode(self._process_out(self._coordinates.latent(latents)))
        return images.reshape(-1, *images.shape[-3:])[..., :3].to("cpu", torch.float32, copy=True)
