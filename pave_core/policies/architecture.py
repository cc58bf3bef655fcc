"""What LoRA managers and trainers call a model: modelspec.architecture, and ss_base_model_version.

A model is known by its family and the width of its network, so that a small one of the same class is not taken for it.
The names of the first column are those of kohya-ss/sd-scripts (library/sai_model_spec.py) and musubi-tuner where they
have one, those of the second of sd-scripts ("flux1", which LoRA Manager shows as Flux.1 D) and ai-toolkit
(get_base_model_version). A fine-tune has its base's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSIONS: dict[str, str] = {
    "flux-1-dev": "flux1",
    "flux-1-schnell": "flux1-schnell",
    "flux-2-dev": "flux2",
    "flux-2-klein-4b": "flux2_klein_4b",
    "flux-2-klein-9b": "flux2_klein_9b",
    "stable-diffusion-3-m": "sd3",
    "stable-diffusion-3-5-medium": "sd3.5_medium",
    "stable-diffusion-3-5-large": "sd3.5_large",
    "chroma": "chroma",
    "lumina-2": "lumina2",
    "z-image": "zimage",
    "qwen-image": "qwen_image",
    "wan2.1": "wan_2.1",
    "hunyuan-video": "hunyuan_video",
}
"""{modelspec.architecture, without the "/lora" of adapters: ss_base_model_version}."""

FAMILIES: dict[tuple[str, int], str] = {
    ("flux", 3072): "flux-1-dev",
    ("flux, no guidance", 3072): "flux-1-schnell",
    ("flux2", 6144): "flux-2-dev",
    ("flux2", 3072): "flux-2-klein-4b",
    ("flux2", 4096): "flux-2-klein-9b",
    ("sd3", 1536): "stable-diffusion-3-m",
    ("sd3, two attentions", 1536): "stable-diffusion-3-5-medium",
    ("sd3", 2432): "stable-diffusion-3-5-large",
    ("chroma", 3072): "chroma",
    ("lumina2", 2304): "lumina-2",
    ("z-image", 3840): "z-image",
    ("qwen-image", 3072): "qwen-image",
    ("wan", 1536): "wan2.1",
    ("wan", 5120): "wan2.1",
    ("hunyuan-video", 3072): "hunyuan-video",
}
"""{(family, width of the network): modelspec.architecture}."""

_PIPELINES = {
    "FluxPipeline": "flux",
    "Flux2Pipeline": "flux2",
    "StableDiffusion3Pipeline": "sd3",
    "Lumina2Pipeline": "lumina2",
    "ZImagePipeline": "z-image",
    "QwenImagePipeline": "qwen-image",
    "WanPipeline": "wan",
}
"""{class of a diffusers pipeline: its family}."""


def architecture_of_pipeline(pipeline: str, network: Mapping[str, Any]) -> str | None:
    """The modelspec.architecture of a diffusers pipeline of this class; None for one that is not known.

    network: the configuration of its transformer.
    """
    family = _PIPELINES.get(pipeline)
    if family is None:
        return None
    if family == "flux" and not network.get("guidance_embeds"):
        family += ", no guidance"
    if family == "sd3" and network.get("dual_attention_layers"):
        family += ", two attentions"
    heads = network.get("num_attention_heads", 0) * network.get("attention_head_dim", 0)
    return FAMILIES.get((family, network.get("hidden_size") or network.get("dim") or heads))
