"""A VAE of the host's own kind (comfy.sd.VAE) with a small random decoder for latents of any shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle


class Decoder(nn.Module):
    """Each latent element becomes a block of factor x factor pixels, and of `frames` images in a video.

    (B, C, h, w) -> (B, 3, h * factor, w * factor); (B, C, t, h, w) -> (B, 3, (t - 1) * frames + 1, ...), in [-1, 1].
    """

    def __init__(self, channels: int, factor: int, frames: int | None) -> None:
        super().__init__()
        self.factor, self.frames = factor, frames
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(3 * factor**2, channels, generator=generator) / channels**0.5
        self.weight = nn.Parameter(weight, requires_grad=False)

    def decode(self, latents: Tensor, **options: Any) -> Tensor:
        if latents.ndim == 4:
            return torch.tanh(pixel_shuffle(torch.einsum("pc,bchw->bphw", self.weight, latents), self.factor))
        images = torch.stack([self.decode(frame) for frame in latents.unbind(2)], dim=2)
        each = self.frames or 1
        return images.repeat_interleave(each, dim=2)[:, :, each - 1 :]  # the first latent frame stands for one image


def make_vae(channels: int, factor: int, frames: int | None, video_latents: bool) -> Any:
    """A comfy.sd.VAE; the host's own pixel-space VAE where factor is 1.

    video_latents: the latent format has a time axis, as that of some image models does.
    """
    from comfy.sd import VAE

    vae: Any = VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    if factor == 1:
        return vae
    vae.first_stage_model = Decoder(channels, factor, frames).to(vae.vae_dtype)
    of = vae.patcher
    vae.patcher = type(of)(vae.first_stage_model, load_device=of.load_device, offload_device=of.offload_device)
    vae.latent_channels = channels
    vae.latent_dim = 3 if video_latents else 2
    vae.upscale_ratio = vae.downscale_ratio = factor
    if video_latents:
        each = frames or 1
        vae.upscale_ratio = (lambda n: max(0, (n - 1) * each + 1), factor, factor)
        vae.downscale_ratio = (lambda n: max(0, (n - 1) // each + 1), factor, factor)
        vae.upscale_index_formula = vae.downscale_index_formula = (each, factor, factor)
    vae.memory_used_decode = lambda shape, dtype: 8 * 3 * factor**2 * torch.Size(shape).numel()
    return vae
