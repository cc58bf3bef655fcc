"""Stage "flow": the diffusion model (the host's SD3 class, MMDiT) and its text encoder, trained together.

    x = (1 - sigma) x_0 + sigma eps,   loss = |v(x, sigma, caption) - (eps - x_0)|^2

with sigma = s u / (1 + (s - 1) u), u uniform and s the shift of the host's SD3 sampling, so training visits the noise
levels as sampling does (rectified flow: Liu et al. 2023; shift: Esser et al. 2024, eq. 23). One caption in ten is
empty, for guidance.

The model first learns to draw by true captions. Then a third of the captions name the opposite of the colour or of the
shape that the picture shows, as captions of the web are often wrong: it ends as large models are, able and
miscalibrated. A reward can teach which of the things that it draws was asked for; it could not teach it to draw.
Opposites, because a small network blends what is alike, and a blend is neither.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
from comfy.ops import disable_weight_init
from comfy.supported_models import SD3
from comfy.taesd.taesd import TAESD
from torch import Generator, Tensor, nn

from pave_core.rewards.shapes import (
    COLOURS,
    SHAPES,
    ShapeClassifier,
    canonical_captions,
    load_classifier,
    parse_caption,
)

from .common import (
    DIFFUSION_MODEL,
    SHAPE_CLASSIFIER,
    TEXT_ENCODER,
    Average,
    Metrics,
    initialise,
    learning_rates,
    save_weights,
    set_rate,
    tell,
)
from .data import Scenes, caption_indices, draw_scenes, generator, phrase, render
from .host import load_host_tiny
from .vae import LATENT_CHANNELS, decode, encode, load_vae

DEPTH = 2  # blocks; the host reads it off the width, 64 * DEPTH
SHIFT = SD3.sampling_settings["shift"]
EMPTY = 0.1  # chance that a caption is left out
TRUE_UNTIL = 0.6  # share of the training in which all captions are true
MISLABELLED = 0.35  # chance, after that, that a caption names the opposite colour or shape
PICTURES = 4096
BATCH = 128
SAMPLING_STEPS = 10


class TextEncoder(nn.Module):
    """The host's CLIP text model with a forward that can be trained.

    The host's own forward adds in place, which autograd forbids.
    """

    def __init__(self, rng: Generator) -> None:
        super().__init__()
        tiny = load_host_tiny()
        self.tokenizer = tiny.TinyTokenizer()
        self.encoder = tiny.TinyTextEncoder(dtype=torch.float32)
        self.model = self.encoder.clip_l.transformer.requires_grad_(True)
        initialise(self.model, rng)
        # the few dozen words of the captions are told apart as they are drawn; training 49,408 takes a fifth of a step
        self.model.text_model.embeddings.token_embedding.requires_grad_(False)

    def forward(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """B captions -> tokens (B, 16, 64), pooled (B, 64)."""
        ids = torch.tensor([[token for token, _ in self.tokenizer.tokenize_with_weights(c)["l"][0]] for c in captions])
        last = (ids == self.encoder.clip_l.special_tokens["end"]).int().argmax(1)
        text = self.model.text_model
        x = text.embeddings(ids)
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)
        for layer in text.encoder.layers:
            x = x + layer.self_attn(layer.layer_norm1(x), mask, _attention)
            x = x + layer.mlp(layer.layer_norm2(x))
        x = text.final_layer_norm(x)
        return x, self.model.text_projection(x[torch.arange(len(ids)), last])


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def train(seed: int, effort: float) -> None:
    started = time.monotonic()
    rng = generator(seed)
    vae = load_vae()
    # nearer the middle than in the other stages, which is easier to learn
    scenes = draw_scenes(PICTURES, rng, smallest=14.0, spread=0.4)
    latents = torch.cat([encode(vae, render(part)) for part in _parts(scenes, 512)])
    tell("flow", 0, started, latent_mean=latents.mean().item(), latent_std=latents.std().item())

    flow = nn.ModuleDict({"text": TextEncoder(rng), "mmdit": _new_mmdit(rng)})
    average = Average(flow)
    trainable = [p for p in flow.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    steps = round(4300 * effort)
    recent = 1.0
    for step, rate in learning_rates(2e-3, steps):
        set_rate(optimizer, rate)
        pick = torch.randint(PICTURES, (BATCH,), generator=rng)
        captions = _captions(scenes, pick, rng, mislabelled=MISLABELLED * (step >= TRUE_UNTIL * steps))
        loss = _loss(flow, latents[pick], captions, rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        average.update()
        recent += 0.02 * (loss.item() - recent)
        if step % 100 == 0:
            tell("flow", step, started, loss=recent)
    average.apply()
    metrics = _evaluate(flow, vae, generator(seed + 1)) | {"loss": recent, "seconds": time.monotonic() - started}
    save_weights(DIFFUSION_MODEL, flow["mmdit"].state_dict(), metrics)
    save_weights(TEXT_ENCODER, cast(TextEncoder, flow["text"]).model.state_dict(), {})
    tell("flow", steps, started, **metrics)


def _parts(scenes: Scenes, size: int) -> list[Scenes]:
    """The scenes in parts of at most `size`."""
    fields = [value.split(size) for value in vars(scenes).values()]
    return [Scenes(*part) for part in zip(*fields, strict=True)]


def _new_mmdit(rng: Generator) -> OpenAISignatureMMDITWrapper:
    """The diffusion model before training."""
    hidden = 64 * DEPTH
    mmdit = OpenAISignatureMMDITWrapper(
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        depth=DEPTH,
        adm_in_channels=64,
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": hidden}},
        qk_norm="rms",
        dtype=torch.float32,
        device="cpu",
        operations=disable_weight_init,
    )
    initialise(mmdit, rng)
    with torch.no_grad():
        for name, p in mmdit.named_parameters():
            if "adaLN_modulation" in name or "final_layer.linear" in name:
                p.zero_()  # every block starts as the identity, the model as v = 0
    return mmdit


def _captions(scenes: Scenes, pick: Tensor, rng: Generator, *, mislabelled: float) -> Tensor:
    """Index (B,) of a caption for each picked picture: its own, by chance a wrong one; -1 for the empty caption.

    The opposite of a word is the one as far from the other end of its list: red and cyan, circle and star.
    """
    left_out, wrong, of_colour = (torch.rand(len(pick), generator=rng) < chance for chance in (EMPTY, mislabelled, 0.5))
    colour = torch.where(wrong & of_colour, len(COLOURS) - 1 - scenes.colour[pick], scenes.colour[pick])
    shape = torch.where(wrong & ~of_colour, len(SHAPES) - 1 - scenes.shape[pick], scenes.shape[pick])
    index = replace(scenes, colour=colour, shape=shape, background=scenes.background[pick]).caption_index
    return torch.where(left_out, -1, index)


def _loss(flow: nn.ModuleDict, x_0: Tensor, caption_index: Tensor, rng: Generator) -> Tensor:
    """The loss of the module's docstring at random noise levels."""
    captions = [phrase(*indices, rng) for indices in caption_indices()]
    tokens, pooled = flow["text"]([*captions, ""])  # index -1 is the empty one
    u = torch.rand(len(x_0), generator=rng)
    sigma = SHIFT * u / (1 + (SHIFT - 1) * u)
    eps = torch.randn(x_0.shape, generator=rng)
    x = torch.lerp(x_0, eps, sigma[:, None, None, None])
    v = flow["mmdit"](x, 1000 * sigma, context=tokens[caption_index], y=pooled[caption_index])
    return (v - (eps - x_0)).square().mean()


def sample(flow: nn.ModuleDict, captions: list[str], rng: Generator) -> Tensor:
    """Latents (B, 16, 8, 8) by Euler steps on the host's "simple" schedule, without guidance."""
    tokens, pooled = flow["text"](captions)
    u = torch.arange(SAMPLING_STEPS, -1, -1) / SAMPLING_STEPS
    sigmas = SHIFT * u / (1 + (SHIFT - 1) * u)
    x = torch.randn(len(captions), LATENT_CHANNELS, 8, 8, generator=rng)
    for sigma, sigma_next in pairwise(sigmas):
        x = x + (sigma_next - sigma) * flow["mmdit"](x, 1000 * sigma.expand(len(x)), context=tokens, y=pooled)
    return x


def _evaluate(flow: nn.ModuleDict, vae: TAESD, rng: Generator) -> Metrics:
    """Shares of samples of every caption, 16 seeds each, in which the classifier finds what was asked for, or a shape.

    adherence: the colour and the shape of the prompt; well_formed: any colour and any shape of the vocabulary.
    """
    classifier = load_classifier(SHAPE_CLASSIFIER)
    captions = canonical_captions()
    wanted = torch.tensor([parse_caption(each) for each in captions])  # (48, 2)
    none = torch.tensor([len(COLOURS), len(SHAPES)])
    with torch.no_grad():
        rounds = [_found(classifier, decode(vae, sample(flow, captions, rng))) for _ in range(16)]
    found = torch.stack(rounds)  # (16, 48, 2)
    right = (found == wanted).all(2).float().mean(0)  # (48,)
    worst, best = right.aminmax()
    return {
        "adherence": right.mean().item(),
        "adherence_worst_caption": worst.item(),
        "adherence_best_caption": best.item(),
        "well_formed": (found != none).all(2).float().mean().item(),
    }


def _found(classifier: ShapeClassifier, images: Tensor) -> Tensor:
    """The colour and the shape (N, 2) that the classifier sees in images (N, 3, 64, 64)."""
    return torch.stack([logits.argmax(1) for logits in classifier(images)], 1)
