"""A host VAE as the core's Decoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .. import interrupt
from .coordinates import coordinates_of

logger = logging.getLogger("pave")

VIDEO = 5
"""The axes of decoded videos: (B, T, H, W, 3)."""


class NativeDecoder:
    """A host VAE as the core's Decoder, with the latent format of `model`. Of a video it gives the middle frame.

    check: as of NativePolicy.
    """

    def __init__(self, model: ModelPatcher, vae: comfy.sd.VAE, check: Callable[[], None] = interrupt.check) -> None:
        self._coordinates = coordinates_of(model.get_model_object("model_sampling"))
        self._process_out = model.model.process_latent_out
        self._vae, self._check = vae, check
        self._said_frame = False

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) fp32 in [0, 1] on the CPU.

        Where memory runs out: an error of torch that says so; a single latent is decoded in tiles instead, as by the
        host. Raises the host's interruption if the user pressed Cancel.
        """
        self._check()
        whole = _without_tiles(self._vae) if len(latents) > 1 else nullcontext()
        with torch.inference_mode(), whole:
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


_TILED = ("decode_tiled_", "decode_tiled_1d", "decode_tiled_3d", "_decode_tiled_owned")


@contextmanager
def _without_tiles(vae: comfy.sd.VAE) -> Iterator[None]:
    """Inside, the VAE raises where it would decode in tiles for want of memory: a smaller batch gives better images."""

    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise torch.cuda.OutOfMemoryError("out of memory in the VAE")

    own = {name: vars(vae)[name] for name in _TILED if name in vars(vae)}
    vars(vae).update(dict.fromkeys(_TILED, refuse))
    try:
        yield
    finally:
        for name in _TILED:
            del vars(vae)[name]
        vars(vae).update(own)
