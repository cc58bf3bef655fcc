"""Workflows for models that people generate with: stock loaders, and settings for the memory of a graphics card.

File names and sampling settings are those of ComfyUI's own templates and examples for each model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pave_core.config.fields import shown
from pave_core.config.presets import MEMORY_PRESETS, WeightDtype

from .files import PLACES, address
from .graph import Out, Ref, Workflow

PROMPTS = """a portrait of an old fisherman, soft window light
a red fox in fresh snow at dawn
a narrow street in Lisbon after rain, evening
a bowl of ramen on a wooden table, seen from above
a lighthouse on a cliff under heavy clouds
a child flying a kite on a wide beach
an astronaut reading a newspaper in a cafe
a field of sunflowers with mountains behind
a vintage car in front of a neon diner at night
a cat asleep on a stack of books"""
SCORER = {"precision": "bf16", "batch_size": 8}
CLIP = {"checkpoint": "open_clip_model.safetensors", "architecture": "ViT-H-14", **SCORER}
HPS = {"checkpoint": "HPS_v2.1_compressed.pt", **SCORER}

Loaded = tuple[Ref | Out, Ref | Out, Ref | Out]
"""MODEL, CLIP, VAE."""


SIZE = 512
"""Pixels of an image's side while training."""


@dataclass(frozen=True)
class Model:
    """A model: its loaders, how it is sampled, and what its note says."""

    title: str
    load: Callable[[Workflow, WeightDtype], Loaded]  # with the weight_dtype of the memory preset
    needs: tuple[str, ...]  # the files of its loaders
    sampling: dict[str, Any]  # cfg, guidance, negative_prompt and scheduler of Pave Train
    steps: int  # for generating
    gigabytes: float  # of its weights in their file
    casts: bool = False  # whether its loader can make them fp8
    cards: tuple[str, ...] = ("12 GB", "24 GB")  # memory presets
    remark: str = ""


def flux(w: Workflow, dtype: WeightDtype) -> Loaded:
    model = w.node("UNETLoader", size=(400, 0), unet_name="flux1-dev.safetensors", weight_dtype=dtype)
    clip_l, t5 = "clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"
    clip = w.node("DualCLIPLoader", clip_name1=clip_l, clip_name2=t5, type="flux")
    return model, clip, w.node("VAELoader", vae_name="ae.safetensors")


def sd35(w: Workflow, dtype: WeightDtype) -> Loaded:
    name = "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors"
    checkpoint = w.node("CheckpointLoaderSimple", size=(400, 0), ckpt_name=name)
    return checkpoint["MODEL"], checkpoint["CLIP"], checkpoint["VAE"]


def z_image(w: Workflow, dtype: WeightDtype) -> Loaded:
    model = w.node("UNETLoader", size=(400, 0), unet_name="z_image_turbo_bf16.safetensors", weight_dtype=dtype)
    clip = w.node("CLIPLoader", clip_name="qwen_3_4b.safetensors", type="lumina2")
    vae = w.node("VAELoader", vae_name="ae.safetensors")
    w.column()
    return w.node("ModelSamplingAuraFlow", model=model, shift=3.0), clip, vae


def qwen_image(w: Workflow, dtype: WeightDtype) -> Loaded:
    model = w.node("UNETLoader", size=(400, 0), unet_name="qwen_image_fp8_e4m3fn.safetensors", weight_dtype="default")
    clip = w.node("CLIPLoader", clip_name="qwen_2.5_vl_7b_fp8_scaled.safetensors", type="qwen_image")
    vae = w.node("VAELoader", vae_name="qwen_image_vae.safetensors")
    w.column()
    return w.node("ModelSamplingAuraFlow", model=model, shift=3.1), clip, vae


def chroma(w: Workflow, dtype: WeightDtype) -> Loaded:
    name = "Chroma1-HD-fp8_scaled_rev2.safetensors"
    model = w.node("UNETLoader", size=(400, 0), unet_name=name, weight_dtype="default")
    clip = w.node("CLIPLoader", clip_name="t5xxl_fp8_e4m3fn_scaled.safetensors", type="chroma")
    vae = w.node("VAELoader", vae_name="ae.safetensors")
    w.column()
    shifted = w.node("ModelSamplingAuraFlow", model=model, shift=1.0)
    return shifted, w.node("T5TokenizerOptions", clip=clip, min_padding=0, min_length=0), vae


MODELS = {
    "sd35_medium": Model(
        "SD3.5 medium",
        sd35,
        ("sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",),
        {"cfg": 4.5, "scheduler": "sgm_uniform", "negative_prompt": ""},
        28,
        gigabytes=4.9,
        cards=("8 GB", "12 GB", "24 GB"),
        remark="Training uses cfg 4.5 too, as generation does, which doubles the network calls.",
    ),
    "flux1_dev": Model(
        "FLUX.1-dev (fp8)",
        flux,
        ("flux1-dev.safetensors", "clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors", "ae.safetensors"),
        {"cfg": 1.0, "guidance": 3.5, "scheduler": "simple"},
        20,
        gigabytes=23.8,
        casts=True,
        cards=("12 GB", "16 GB", "24 GB"),
        remark="The paper's own model, here with its weights in fp8; the LoRA beside them is trained in full "
        "precision.",
    ),
    "z_image_turbo": Model(
        "Z-Image Turbo",
        z_image,
        ("z_image_turbo_bf16.safetensors", "qwen_3_4b.safetensors", "ae.safetensors"),
        {"cfg": 1.0, "scheduler": "simple"},
        9,
        gigabytes=12.3,
        casts=True,
        remark="A distilled model that generates in few steps: it trains with 8, as it is used.",
    ),
    "qwen_image": Model(
        "Qwen-Image",
        qwen_image,
        (
            "qwen_image_fp8_e4m3fn.safetensors",
            "qwen_2.5_vl_7b_fp8_scaled.safetensors",
            "qwen_image_vae.safetensors",
        ),
        {"cfg": 2.5, "scheduler": "simple"},
        20,
        gigabytes=20.4,
        remark="Its weights alone are 20 GB: ComfyUI keeps part of them in main memory and streams them, which is slow "
        "on a small card.",
    ),
    "chroma": Model(
        "Chroma1-HD",
        chroma,
        ("Chroma1-HD-fp8_scaled_rev2.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors", "ae.safetensors"),
        {"cfg": 3.5, "scheduler": "beta", "negative_prompt": "low quality, blurry"},
        26,
        gigabytes=8.9,
    ),
}


def listed(files: tuple[str, ...]) -> str:
    """The files of a model and of the rewards, with their folders, as Markdown links."""
    names = (*files, CLIP["checkpoint"], HPS["checkpoint"])
    return "\n".join(f"- `models/{PLACES[name][0]}`: [{name}]({address(name)})" for name in names)


def real(name: str, card: str) -> Workflow:
    """The workflow of one model on one card, by the names of both."""
    about, preset = MODELS[name], MEMORY_PRESETS[card]
    dtype = preset.weight_dtype(about.gigabytes) if about.casts else "default"
    memory = preset.memory(about.gigabytes if dtype == "default" else about.gigabytes / 2)
    w = Workflow(file_name(name, card), cover=("1", "2", "3"))
    w.group("1. The model and the prompts")
    w.note(
        f"""
## {about.title}, {card} card

Put these files where the loaders look (ComfyUI's list of missing models has the same addresses):

{listed(about.needs)}

{about.remark}

**The method is the paper's, with a smaller rank ({preset.rank}), groups of 12 and a guard, and memory settings that an
estimate makes fit {card}. This file has not been run on such a card.** Set `iterations` to 2 for a first try; *Pave
Preflight* tells before a run whether it fits. If memory runs out, raise `offload` in *Pave Memory*, then lower `width`
and `height`.

HPS v2.1 scores what people prefer, the CLIP score keeps the images true to the prompt; 0.7 to 1.4 is a balance that
has been published. The guard ends the run when the look of the images has changed by half. Replace the ten prompts,
of which two are held out, by thirty or more of your own, and the rewards by what you like.
""",
        (460, 760),
    )
    model, clip, vae = about.load(w, dtype)
    w.column()
    prompts = w.node("PavePrompts", size=(400, 300), text=PROMPTS, held_out=0.2, seed=0)
    w.group("2. What you like", "#8A8")
    adherence = w.node("PaveCLIPScore", "CLIP score: true to the prompt", **CLIP)
    preference = w.node("PaveHPSv2", "HPS v2.1: what people prefer", **HPS)
    w.column()
    weights: dict[str, Any] = {"weight_1": 1.4, "weight_2": 0.7}
    mix = w.node("PaveRewardMix", reward_1=adherence, reward_2=preference, **weights, normalise="within group")
    guard = w.node("PaveGuard", "Guard: the look of the images", every=25, max_drop=0.0, max_change=0.5)
    w.group("3. Train", "#b06634")
    is_preset = memory == preset.memory()
    fit = w.node("PaveMemory", preset=card if is_preset else "custom", **shown(memory))
    w.column()
    few = {"steps": 8, "branch_steps": "0, 1, 2, 3"} if about.steps < 16 else {}
    train = w.node(
        "PaveTrain",
        size=(420, 0),
        model=model,
        clip=clip,
        vae=vae,
        prompts=prompts,
        reward=mix,
        guard=guard,
        memory=fit,
        run_name=w.name,
        evaluate_every=50,
        width=SIZE,
        height=SIZE,
        rank=preset.rank,
        alpha=2.0 * preset.rank,
        batch_size=preset.batch_size,
        **about.sampling,
        **few,
    )
    w.group("4. What came out")
    w.preview("Curve", train["curve"], (560, 760))
    w.node("PaveSaveLoRA", lora=train["lora"], name=w.name)
    w.column()
    w.preview("Before and after, same seeds", train["grid"], (560, 760))
    w.text("Summary", train["summary"], (560, 380))
    w.row()
    w.group("5. Generate: the model as it was, and the trained model, same prompt, same seed", "#8A8", after=train)
    generate(w, about, models=(model, train["model"]), clip=clip, vae=vae)
    return w


def generate(
    w: Workflow, about: Model, *, models: tuple[Ref | Out, Ref | Out], clip: Ref | Out, vae: Ref | Out
) -> None:
    """Generate with the stock KSampler and both models, as it was and as trained."""
    guidance = about.sampling.get("guidance")
    positive = w.node("CLIPTextEncode", "Prompt", clip=clip, text=PROMPTS.splitlines()[0])
    negative = w.node("CLIPTextEncode", "Negative prompt", clip=clip, text=about.sampling.get("negative_prompt", ""))
    latent = w.node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1)
    w.column()
    if guidance is not None:
        positive = w.node("FluxGuidance", conditioning=positive, guidance=guidance)
        w.column()
    inputs: dict[str, Any] = {"positive": positive, "negative": negative, "latent_image": latent, "seed": 1}
    inputs |= {"steps": about.steps, "cfg": about.sampling["cfg"]}
    inputs |= {"sampler_name": "euler", "scheduler": about.sampling["scheduler"]}
    samplers = [
        w.node("KSampler", title, model=model, **inputs)
        for title, model in zip(("The model as it was", "The trained model"), models, strict=True)
    ]
    w.column()
    decoded = [w.node("VAEDecode", samples=sampler, vae=vae) for sampler in samplers]
    w.column()
    for title, images in zip(("Before", "After"), decoded, strict=True):
        w.preview(title, images, (420, 440))


def file_name(name: str, card: str) -> str:
    """The name of the workflow of a model on a card: flux1_dev_12gb."""
    return f"{name}_{card.replace(' ', '').lower()}"


REAL_MODELS: dict[str, Callable[[], Workflow]] = {
    file_name(name, card): partial(real, name, card) for name, model in MODELS.items() for card in model.cards
}
"""The workflows for models that are not bundled."""
