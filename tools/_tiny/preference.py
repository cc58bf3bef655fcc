"""Stage "preference": an MLP on the tiny CLIP's features, trained on pairs of pictures of one prompt.

    loss = - log sigmoid(s(preferred, prompt) - s(other, prompt))           Bradley and Terry (1952)

What is preferred: a clean shape to a malformed one, the prompt's colour and shape to another, a large shape to a small
one. The two pictures of a pair differ in one of these, and by chance in position, tilt and tint. One pair in ten is
labelled the other way, as people disagree: so no difference of scores is worth more than about log 9.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pave_core.rewards.networks.clip import Clip
from pave_core.rewards.networks.clip_config import preprocess_of, read_config
from pave_core.rewards.networks.compute import Compute
from pave_core.rewards.preference import PreferenceHead
from pave_core.rewards.shapes import COLOURS, IMAGE_SIZE, SHAPES

from .common import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_MODEL,
    PREFERENCE,
    Metrics,
    initialise,
    learning_rates,
    save_weights,
    set_rate,
    tell,
)
from .data import PALETTE, Scenes, distance, draw_scenes, generator, paint, phrase, render, roughen
from .vae import decode, encode, load_vae

KINDS = ("form", "colour", "shape", "size")
DISAGREEMENT = 0.1
LARGE, SMALL = (15.0, 17.0), (10.0, 12.5)  # sizes in pixels


@dataclass(frozen=True)
class Pairs:
    """N pairs: unit features (N, D) of the two pictures and of their prompt, and the index of each one's kind (N,)."""

    preferred: Tensor
    other: Tensor
    text: Tensor
    kind: Tensor


def train(seed: int, effort: float) -> None:
    started = time.monotonic()
    rng = generator(seed)
    clip = _load_clip()
    pairs = (
        _pairs(round(8192 * effort), rng, clip, decoded=False),
        _pairs(round(2048 * effort), rng, clip, decoded=True),
    )
    tell("preference", 0, started)
    head = PreferenceHead()
    initialise(head, rng)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=1e-2)
    steps = round(2000 * effort)
    loss = torch.zeros(())
    for step, rate in learning_rates(2e-3, steps):
        set_rate(optimizer, rate)
        parts = [_margins(head, each, torch.randint(len(each.kind), (128,), generator=rng)) for each in pairs]
        margins = torch.cat(parts)
        sign = torch.where(torch.rand(len(margins), generator=rng) < DISAGREEMENT, -1.0, 1.0)
        loss = -functional.logsigmoid(sign * margins).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 500 == 0:
            tell("preference", step, started, loss=loss.item())
    save_weights(PREFERENCE, head.state_dict(), {})
    metrics = _evaluate(head, clip, generator(seed + 1))
    metrics |= {"loss": loss.item(), "seconds": time.monotonic() - started}
    save_weights(PREFERENCE, head.state_dict(), metrics)
    tell("preference", steps, started, **metrics)


def _load_clip() -> Clip:
    config = read_config(OPEN_CLIP_CONFIG)
    prepare, compute = preprocess_of(config), Compute(batch_size=256)
    return Clip(OPEN_CLIP_MODEL, config, preprocess=prepare, compute=compute, field="clip", what="the tiny CLIP")


def _margins(head: PreferenceHead, pairs: Pairs, pick: Tensor) -> Tensor:
    """s(preferred) - s(other) of the picked pairs (n,)."""
    text = pairs.text[pick]
    return head(pairs.preferred[pick], text) - head(pairs.other[pick], text)


def _pairs(n: int, rng: Generator, clip: Clip, *, decoded: bool) -> Pairs:
    """N pairs, the kinds in turn; decoded: of pictures after the VAE's round trip with noise on the latent."""
    kind = torch.arange(n) % len(KINDS)
    right = _resized(draw_scenes(n, rng), rng, *LARGE)
    pictures = torch.cat((render(right), _others(right, kind, rng)))
    if decoded:
        vae = load_vae()
        latents = encode(vae, pictures)
        noise = 0.2 * torch.rand(2 * n, 1, 1, 1, generator=rng)
        pictures = decode(vae, latents + noise * torch.randn(latents.shape, generator=rng))
    else:
        pictures = roughen(pictures, rng)
    indices = zip(right.colour.tolist(), right.shape.tolist(), right.background.tolist(), strict=True)
    image, text = clip.features(pictures.movedim(1, -1), [phrase(*each, rng) for each in indices])
    return Pairs(image[:n], image[n:], text, kind)


def _resized(scenes: Scenes, rng: Generator, low: float, high: float) -> Scenes:
    """The scenes with sizes drawn anew from [low, high], nearer the middle so that the shapes lie inside."""
    size = low + (high - low) * torch.rand(len(scenes.size), generator=rng)
    return replace(scenes, size=size, centre=torch.lerp(torch.tensor(IMAGE_SIZE / 2), scenes.centre, 0.4))


def _others(right: Scenes, kind: Tensor, rng: Generator) -> Tensor:
    """For each of N scenes a picture that is preferred less, (N, 3, 64, 64), in the way that `kind` (N,) says."""
    n = len(kind)
    is_form, is_colour, is_shape, is_size = (kind == i for i in range(len(KINDS)))
    wrong_colour = (right.colour + torch.randint(1, len(COLOURS), (n,), generator=rng)) % len(COLOURS)
    wrong_shape = (right.shape + torch.randint(1, len(SHAPES), (n,), generator=rng)) % len(SHAPES)
    drawn = draw_scenes(n, rng)
    colour = torch.where(is_colour, wrong_colour, right.colour)
    other = replace(
        drawn,
        colour=colour,
        shape=torch.where(is_shape, wrong_shape, right.shape),
        rgb=(PALETTE[colour] + drawn.rgb - PALETTE[drawn.colour]).clamp(0, 1),  # a tint of its own
        background_rgb=right.background_rgb,
    )
    small = _resized(other, rng, *SMALL)
    other = _resized(other, rng, *LARGE)
    d = torch.where(is_size[:, None, None], distance(small), distance(other))
    melted, wavy, soft = ((is_form & (torch.arange(n) // len(KINDS) % 3 == i))[:, None, None] for i in range(3))
    half = (0.4 + 0.2 * torch.rand(n, generator=rng))[:, None, None]
    waves = functional.interpolate(torch.randn(n, 1, 7, 7, generator=rng), d.shape[-2:], mode="bicubic")[:, 0]
    d = torch.where(melted, torch.lerp(d, distance(other, wrong_shape), half), d + 5 * waves * wavy)
    return paint(other, d, softness=torch.where(soft, 14.0, 1.0))


def _evaluate(head: PreferenceHead, clip: Clip, rng: Generator) -> Metrics:
    """The share of new pairs, decoded, in which the preferred picture scores higher, by kind."""
    pairs = _pairs(256, rng, clip, decoded=True)
    with torch.no_grad():
        won = _margins(head, pairs, torch.arange(len(pairs.kind))) > 0
    return {f"right_{name}": won[pairs.kind == i].float().mean().item() for i, name in enumerate(KINDS)}
