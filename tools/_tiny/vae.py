"""Stage "vae": the host's TAESD with 16 latent channels, trained on the tiny pictures.

    y    = D(E(x) + 0.1 eps)
    loss = |y - x|_1 + 4 |y - x|_2^2 + |grad y - grad x|_1 + 0.05 sum_c (mean_c^2 + (std_c - 1)^2)

The last term keeps latents at unit scale, the noise keeps the decoder smooth around them. The host subtracts and
multiplies by the SD3 latent format's shift and scale between model and VAE; vae_shift and vae_scale in the file undo
that, so that the diffusion model's own latents are exactly E(x).
"""

from __future__ import annotations

import time

import torch
from comfy.latent_formats import SD3
from comfy.taesd.taesd import TAESD, Block
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from .common import VAE, Metrics, initialise, learning_rates, save_weights, set_rate, tell
from .data import draw_scenes, generator, render, roughen

LATENT_CHANNELS = 16
LATENT_NOISE = 0.1
CROP = 32


def train(seed: int, effort: float) -> None:
    started = time.monotonic()
    rng = generator(seed)
    vae = _new_vae(rng)
    optimizer = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.98), weight_decay=1e-4)
    steps = round(1300 * effort)
    for step, rate in learning_rates(1.5e-3, steps):
        set_rate(optimizer, rate)
        # the end of the training sees whole pictures, the start crops of them at a quarter of the cost
        x = pictures(8, rng) if step >= 0.8 * steps else _crops(16, rng)
        with torch.autocast("cpu", torch.bfloat16):
            z = vae.taesd_encoder(x)
            y = vae.taesd_decoder(z + LATENT_NOISE * torch.randn(z.shape, generator=rng))
        error = y.float() - x
        mean, std = z.float().mean((0, 2, 3)), z.float().std((0, 2, 3))
        loss = picture_loss(error) + 0.05 * (mean.square() + (std - 1).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            tell("vae", step, started, loss=loss.item(), l1=error.abs().mean().item(), std=std.mean().item())
    metrics = evaluate(vae, generator(seed + 1))
    metrics["seconds"] = time.monotonic() - started
    save_weights(VAE, vae.state_dict(), metrics)
    tell("vae", steps, started, **metrics)


def load_vae() -> TAESD:
    """The trained VAE of the bundled model."""
    vae = TAESD(latent_channels=LATENT_CHANNELS)
    vae.load_state_dict(load_file(VAE))
    return vae.eval().requires_grad_(False)


def encode(vae: TAESD, images: Tensor) -> Tensor:
    """Images (N, 3, 64, 64) in [0, 1] -> the diffusion model's latents (N, 16, 8, 8)."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return torch.cat([vae.taesd_encoder(part).float() for part in images.split(32)])


def decode(vae: TAESD, latents: Tensor) -> Tensor:
    """Latents (N, 16, 8, 8) -> images (N, 3, 64, 64) in [0, 1]."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return torch.cat([vae.taesd_decoder(part).float() for part in latents.split(32)]).clamp(0, 1)


def _new_vae(rng: Generator) -> TAESD:
    vae = TAESD(latent_channels=LATENT_CHANNELS)
    initialise(vae, rng, gain=2**0.5)
    with torch.no_grad():
        nearly_identity(vae)
        vae.taesd_encoder[-1].get_parameter("weight").mul_(0.3)
        vae.vae_scale.fill_(SD3().scale_factor)
        vae.vae_shift.fill_(SD3().shift_factor)
    vae.vae_scale.requires_grad_(False)
    vae.vae_shift.requires_grad_(False)
    return vae


def nearly_identity(module: nn.Module) -> None:
    """Make the blocks in a new module small beside what passes them by: the depth has no norm layers."""
    with torch.no_grad():
        for block in module.modules():
            if isinstance(block, Block):
                block.conv[-1].get_parameter("weight").mul_(0.2)


def pictures(n: int, rng: Generator) -> Tensor:
    """Pictures, three quarters of them clean, the rest roughened so that the VAE learns imperfect pictures too."""
    x = render(draw_scenes(n, rng))
    return torch.cat((x[n // 4 :], roughen(x[: n // 4], rng)))


def _crops(n: int, rng: Generator) -> Tensor:
    x = pictures(n, rng)
    top, left = torch.randint(x.shape[-1] - CROP + 1, (2,), generator=rng).tolist()
    return x[:, :, top : top + CROP, left : left + CROP].contiguous()


def picture_loss(error: Tensor) -> Tensor:
    """|e|_1 + 4 |e|_2^2 + |grad e|_1 of errors (N, 3, H, W), each a mean."""
    return error.abs().mean() + 4 * error.square().mean() + _gradients(error)


def _gradients(error: Tensor) -> Tensor:
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def evaluate(vae: TAESD, rng: Generator) -> Metrics:
    """How well 256 new pictures come back, and the mean and the spread of their latents."""
    x = render(draw_scenes(256, rng))
    z = encode(vae, x)
    error = decode(vae, z) - x
    return {
        "reconstruction_l1": error.abs().mean().item(),
        "reconstruction_psnr_db": -10 * error.square().mean().log10().item(),
        "latent_mean": z.mean().item(),
        "latent_std": z.std().item(),
    }
