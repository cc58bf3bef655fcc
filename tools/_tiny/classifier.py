"""Stage "classifier": the judge of colour and shape, trained on its own pictures from its own seed.

It sees clean, roughened and VAE-decoded pictures with a hard label, and pictures that deserve none ("neither of
these"): shapes half-way between two, colours outside the palette, empty and shapeless pictures.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pave_core.rewards.shapes import COLOURS, SHAPES, ShapeClassifier, load_classifier

from .common import SHAPE_CLASSIFIER, Metrics, initialise, learning_rates, save_weights, set_rate, tell
from .data import OUTSIDE_PALETTE, distance, draw_scenes, generator, paint, render, roughen
from .vae import decode, encode, load_vae

NO_COLOUR, NO_SHAPE = len(COLOURS), len(SHAPES)


def train(seed: int, effort: float) -> None:
    started = time.monotonic()
    rng = generator(seed)
    decoded = _decoded_pictures(1024, rng)
    classifier = ShapeClassifier()
    initialise(classifier, rng, gain=2**0.5)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    steps = round(800 * effort)
    for step, rate in learning_rates(3e-3, steps):
        set_rate(optimizer, rate)
        images, colour, shape = _batch(rng, decoded)
        colour_logits, shape_logits = classifier(images.contiguous())
        loss = functional.cross_entropy(colour_logits, colour) + functional.cross_entropy(shape_logits, shape)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            tell("classifier", step, started, loss=loss.item())
    save_weights(SHAPE_CLASSIFIER, classifier.state_dict(), {})
    metrics = _evaluate(load_classifier(SHAPE_CLASSIFIER), generator(seed + 1))
    metrics["seconds"] = time.monotonic() - started
    save_weights(SHAPE_CLASSIFIER, classifier.state_dict(), metrics)
    tell("classifier", steps, started, **metrics)


def _decoded_pictures(n: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures after the VAE's round trip, half of them with noise on the latent, and their colours and shapes."""
    vae = load_vae()
    scenes = draw_scenes(n, rng)
    latents = encode(vae, render(scenes))
    latents[n // 2 :] += 0.2 * torch.randn(latents[n // 2 :].shape, generator=rng)
    return decode(vae, latents), scenes.colour, scenes.shape


def _batch(rng: Generator, decoded: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """128 pictures (128, 3, 64, 64) with a colour and a shape label each: 48 drawn, 48 decoded, 32 spoiled."""
    scenes = draw_scenes(48, rng)
    pick = torch.randint(len(decoded[0]), (48,), generator=rng)
    spoiled, spoiled_colour, spoiled_shape = _spoiled(rng)
    images = torch.cat((roughen(render(scenes), rng), roughen(decoded[0][pick], rng), spoiled))
    colour = torch.cat((scenes.colour, decoded[1][pick], spoiled_colour))
    shape = torch.cat((scenes.shape, decoded[2][pick], spoiled_shape))
    return images, colour, shape


def _spoiled(rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """32 pictures that lack a colour or a shape: 12 melted shapes, 8 in foreign colours, 6 empty, 6 blots."""
    melted = draw_scenes(12, rng)
    other = (melted.shape + torch.randint(1, len(SHAPES), (12,), generator=rng)) % len(SHAPES)
    half = (0.42 + 0.16 * torch.rand(12, generator=rng))[:, None, None]
    melted_images = paint(melted, torch.lerp(distance(melted), distance(melted, other), half))

    foreign = draw_scenes(8, rng)
    rgb = OUTSIDE_PALETTE[torch.randint(len(OUTSIDE_PALETTE), (8,), generator=rng)]
    invisible = (rgb - foreign.background_rgb).abs().amax(1) < 0.2
    foreign = replace(foreign, rgb=rgb, shape=torch.where(invisible, NO_SHAPE, foreign.shape))
    foreign_images = paint(foreign, distance(foreign, foreign.shape % len(SHAPES)))

    empty = draw_scenes(6, rng)
    empty_images = empty.background_rgb[:, :, None, None].expand(6, 3, 64, 64)

    blots = draw_scenes(6, rng)
    field = functional.interpolate(torch.randn(6, 1, 5, 5, generator=rng), (64, 64), mode="bicubic")[:, 0]
    blot_images = paint(blots, 12 * field)

    none = torch.full((6,), NO_SHAPE)
    images = torch.cat((melted_images, foreign_images, empty_images, blot_images))
    colour = torch.cat((melted.colour, torch.full((8,), NO_COLOUR), torch.full((6,), NO_COLOUR), blots.colour))
    shape = torch.cat((torch.full((12,), NO_SHAPE), foreign.shape, none, none))
    return roughen(images, rng), colour, shape


def _evaluate(classifier: ShapeClassifier, rng: Generator) -> Metrics:
    """Shares of new pictures: both heads right, as drawn and after the VAE's round trip; spoiled ones noticed."""
    vae = load_vae()
    scenes = draw_scenes(1024, rng)
    drawn = render(scenes)
    labels = torch.stack((scenes.colour, scenes.shape), 1)
    spoiled, _, _ = _spoiled(rng)
    with torch.no_grad():
        kinds = (drawn, decode(vae, encode(vae, drawn)))
        right = [_found(classifier, images).eq(labels).all(1).float().mean().item() for images in kinds]
        found = _found(classifier, spoiled)
    noticed = (found[:, 0] == NO_COLOUR) | (found[:, 1] == NO_SHAPE)
    return {"accuracy_drawn": right[0], "accuracy_decoded": right[1], "spoiled_noticed": noticed.float().mean().item()}


def _found(classifier: ShapeClassifier, images: Tensor) -> Tensor:
    """The colour and the shape (N, 2) that the classifier sees."""
    colour, shape = classifier(images)
    return torch.stack((colour.argmax(1), shape.argmax(1)), 1)
