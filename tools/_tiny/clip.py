"""Stage "clip": a tiny open_clip model (ResNet image tower, transformer text tower) for the CLIP-score reward.

Contrastive with soft labels: a batch holds every caption once, so image i has a target distribution p_i over the 48
captions, and the loss is the mean of the cross-entropies of softmax(s <image_i, text_j>) over j against p_i, and over
i against p_j. An in-between picture (two shapes melted, two colours mixed) has both parents' captions as targets in
the proportion of the mixture, which is what makes the score rise smoothly as a picture gets better.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import open_clip
import torch
from torch import Generator, Tensor
from torch.nn import functional

from pave_core.rewards.shapes import COLOURS, SHAPES, canonical_captions

from .common import OPEN_CLIP_CONFIG, OPEN_CLIP_MODEL, Metrics, learning_rates, save_weights, set_rate, tell
from .data import Scenes, caption_indices, distance, draw_scenes, generator, paint, phrase, render, roughen
from .vae import decode, encode, load_vae

CONFIG = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {
        **{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        **{"interpolation": "bicubic", "resize_mode": "shortest"},
    },
}
LOGIT_SCALE_LIMIT = 20.0  # CLIP's 100 would let tiny cosine gaps suffice; a lower limit spreads the scores


def train(seed: int, effort: float) -> None:
    started = time.monotonic()
    rng = generator(seed)
    torch.manual_seed(seed)  # open_clip initialises its towers from the global generator
    model = open_clip.CLIP(**CONFIG["model_cfg"])
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=1e-2)
    decoded = _decoded_pictures(1024, rng)
    steps = round(1300 * effort)
    last_loss = 0.0
    for step, rate in learning_rates(2e-3, steps):
        set_rate(optimizer, rate)
        images, targets = _batch(rng, decoded)
        logits = _similarity(model, images, _phrasings(rng)) * model.logit_scale.exp()  # (B, 48)
        by_image = functional.cross_entropy(logits, targets)
        by_caption = functional.cross_entropy(logits.T, (targets / targets.sum(0, keepdim=True).clamp(min=1e-6)).T)
        loss = (by_image + by_caption) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last_loss = loss.item()
        with torch.no_grad():
            model.logit_scale.clamp_(max=torch.tensor(LOGIT_SCALE_LIMIT).log())
        if step % 100 == 0:
            tell("clip", step, started, loss=last_loss, by_image=by_image.item(), scale=model.logit_scale.exp().item())
    metrics = _evaluate(model.eval(), generator(seed + 1)) | {"loss": last_loss, "seconds": time.monotonic() - started}
    save_weights(OPEN_CLIP_MODEL, model.state_dict(), metrics)
    OPEN_CLIP_CONFIG.write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    tell("clip", steps, started, **metrics)


def _similarity(model: open_clip.CLIP, images: Tensor, captions: list[str]) -> Tensor:
    """Cosines (B, len(captions)) between images (B, 3, 64, 64) in [0, 1] and captions."""
    tokens = open_clip.tokenize(captions, context_length=model.context_length)
    return model.encode_image(images * 2 - 1, normalize=True) @ model.encode_text(tokens, normalize=True).T


def _phrasings(rng: Generator) -> list[str]:
    """Every caption once, in the canonical order, some of them reworded."""
    return [phrase(*indices, rng) for indices in caption_indices()]


def _decoded_pictures(n: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Pictures after the VAE's round trip with more or less noise on the latent, and one-hot targets (n, 48)."""
    vae = load_vae()
    scenes = draw_scenes(n, rng)
    latents = encode(vae, render(scenes))
    noise = 0.4 * torch.rand(n, 1, 1, 1, generator=rng)
    return decode(vae, latents + noise * torch.randn(latents.shape, generator=rng)), _one_hot(scenes)


def _one_hot(scenes: Scenes) -> Tensor:
    return functional.one_hot(scenes.caption_index, len(canonical_captions())).float()


def _batch(rng: Generator, decoded: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Images (96, 3, 64, 64) and target distributions (96, 48): 36 drawn, 28 decoded, 32 mixed."""
    drawn = draw_scenes(36, rng)
    pick = torch.randint(len(decoded[0]), (28,), generator=rng)
    mixed, mixed_targets = _mixed(32, rng)
    images = torch.cat((roughen(render(drawn), rng), roughen(decoded[0][pick], rng), roughen(mixed, rng)))
    return images, torch.cat((_one_hot(drawn), decoded[1][pick], mixed_targets))


def _mixed(n: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Pictures between two captions, shape and colour each mixed in a proportion of its own, and their targets."""
    a = draw_scenes(n, rng)
    other = draw_scenes(n, rng)
    shape, colour = (torch.rand(n, generator=rng) for _ in range(2))  # share of `other` in shape and in colour
    form = torch.lerp(distance(a), distance(a, other.shape), shape[:, None, None])
    images = paint(replace(a, rgb=torch.lerp(a.rgb, other.rgb, colour[:, None])), form)
    targets = torch.zeros(n, len(canonical_captions()))
    for which_colour, colour_share in ((a.colour, 1 - colour), (other.colour, colour)):
        for which_shape, shape_share in ((a.shape, 1 - shape), (other.shape, shape)):
            target = _one_hot(replace(a, colour=which_colour, shape=which_shape))
            targets += (colour_share * shape_share)[:, None] * target
    return images, targets


def _evaluate(model: open_clip.CLIP, rng: Generator) -> Metrics:
    """Shares of pictures, drawn and decoded, whose best caption of 48 is right; mean cosines with some captions."""
    vae = load_vae()
    scenes = draw_scenes(1024, rng)
    drawn = render(scenes)
    captions = canonical_captions()
    with torch.no_grad():
        cosines = _similarity(model, drawn, captions)
        decoded_cosines = _similarity(model, decode(vae, encode(vae, drawn)), captions)
    right = scenes.caption_index

    def cosine(colour: Tensor, shape: Tensor) -> float:
        return cosines.gather(1, replace(scenes, colour=colour, shape=shape).caption_index[:, None]).mean().item()

    wrong_colour, wrong_shape = (scenes.colour + 1) % len(COLOURS), (scenes.shape + 1) % len(SHAPES)
    return {
        "retrieval_drawn": (cosines.argmax(1) == right).float().mean().item(),
        "retrieval_decoded": (decoded_cosines.argmax(1) == right).float().mean().item(),
        "cosine_right": cosine(scenes.colour, scenes.shape),
        "cosine_wrong_colour": cosine(wrong_colour, scenes.shape),
        "cosine_wrong_shape": cosine(scenes.colour, wrong_shape),
        "cosine_both_wrong": cosine(wrong_colour, wrong_shape),
    }
