"""Stage "decoder": the VAE's decoder made lean; the encoder, and so the latents and the flow model, stay as they are.

    loss = |y - t|_1 + 4 |y - t|_2^2 + |grad y - grad t|_1,    t = D(z),  y = lean D(z)

at z = E(x) + s eps with s uniform in [0, 0.2]; a quarter of the latents are blends of two pictures', as a flow model
that is unsure draws them.

D is the decoder of stage "vae", with 64 channels at every resolution; the lean one has WIDTHS, and keeps D's layers
where those are 64 too. The file has zeros for the rest (nodes/host/lean.py), so that it stays a TAESD.
"""

from __future__ import annotations

import copy
import time

import torch
from comfy.taesd.taesd import TAESD, Block
from torch import Generator, Tensor, nn

from .common import VAE, initialise, learning_rates, read_metrics, save_weights, set_rate, tell
from .data import generator
from .host import load_host_tiny
from .vae import decode, encode, evaluate, load_vae, nearly_identity, picture_loss, pictures

WIDTHS = (64, 64, 32, 16)  # channels at 8x8, 16x16, 32x32, 64x64: a quarter of the multiplications
POOL = 4096
HELD_OUT = 256
BATCH = 16

lean = load_host_tiny().lean


def train(seed: int, effort: float) -> None:
    started = time.monotonic()
    rng = generator(seed)
    vae = load_vae()
    if not vae.taesd_decoder[-1].get_parameter("weight")[:, WIDTHS[-1] :].any():
        raise SystemExit(f"{VAE.name} has a lean decoder already: run --only vae first")
    z = torch.cat([_latents(vae, rng) for _ in range(POOL // 256)])
    t = decode(vae, z)
    decoder = _student(vae.taesd_decoder, rng)
    optimizer = torch.optim.AdamW(decoder.parameters(), betas=(0.9, 0.98), weight_decay=1e-4)
    steps = round(4000 * effort)
    for step, rate in learning_rates(2e-3, steps):
        set_rate(optimizer, rate)
        pick = torch.randint(POOL - HELD_OUT, (BATCH,), generator=rng)
        with torch.autocast("cpu", torch.bfloat16):
            y = decoder(z[pick])
        loss = picture_loss(y.float() - t[pick])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            tell("decoder", step, started, loss=loss.item())
    _put(decoder, vae.taesd_decoder)
    error = decode(vae, z[-HELD_OUT:]) - t[-HELD_OUT:]
    metrics = read_metrics(VAE)
    metrics |= evaluate(vae, generator(seed + 1)) | {
        "lean_decoder_psnr_db": -10 * error.square().mean().log10().item(),
        "seconds": metrics["seconds"] + time.monotonic() - started,
    }
    save_weights(VAE, vae.state_dict(), metrics)
    tell("decoder", steps, started, **metrics)


def _latents(vae: TAESD, rng: Generator) -> Tensor:
    """Latents (256, 16, 8, 8) with noise; the first 64 are blends."""
    z = encode(vae, pictures(256, rng))
    z[:64] = torch.lerp(z[:64], z[64:128], torch.rand(64, 1, 1, 1, generator=rng))
    return z + 0.2 * torch.rand(256, 1, 1, 1, generator=rng) * torch.randn(z.shape, generator=rng)


def _student(decoder: nn.Sequential, rng: Generator) -> nn.Sequential:
    """A lean decoder: the layers of `decoder` where they keep their width, else new ones."""
    student = copy.deepcopy(decoder)
    widths, width = iter(WIDTHS), 0
    with torch.no_grad():
        for layer in student[:-1]:
            width = next(widths) if isinstance(layer, nn.Conv2d) else width
            for p in layer.parameters():
                p[width:] = 0
    lean(student)
    for layer, before in zip(student, decoder, strict=True):
        if any(p.shape != full.shape for p, full in zip(layer.parameters(), before.parameters(), strict=True)):
            initialise(layer, rng, gain=2**0.5 if isinstance(layer, Block) else 1.0)
            nearly_identity(layer)
    return student.requires_grad_(True)


def _put(student: nn.Sequential, decoder: nn.Sequential) -> None:
    """Write the lean decoder's weights into the full one, and zeros around them."""
    with torch.no_grad():
        for full, p in zip(decoder.parameters(), student.parameters(), strict=True):
            full.zero_()
            full[tuple(slice(n) for n in p.shape)] = p
