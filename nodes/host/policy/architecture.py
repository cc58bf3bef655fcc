"""What LoRA managers call the architecture of a MODEL, from what the host has found in its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher

from ....pave_core.policies.architecture import FAMILIES
from .fit import name_of

SD3_WIDTH = 64  # the width of its network for each of its blocks
QWEN_WIDTH = {60: 3072}  # by the number of its blocks, which is all that the host writes down

NAMES = {
    "Flux": "flux",
    "FluxSchnell": "flux, no guidance",
    "Flux2": "flux2",
    "SD3": "sd3",
    "Chroma": "chroma",
    "Lumina2": "lumina2",
    "ZImage": "z-image",
    "QwenImage": "qwen-image",
    "WAN21_T2V": "wan",
    "HunyuanVideo": "hunyuan-video",
}
"""{the host's name of a class of models: its family}."""


def architecture_of(model: ModelPatcher) -> str | None:
    """The modelspec.architecture of MODEL, without a suffix; None for one that is not known."""
    return architecture(name_of(model), model.model.model_config.unet_config)


def architecture(name: str, network: Mapping[str, Any]) -> str | None:
    """The same, of the host's name for a class of models and its settings of the network."""
    family, width = NAMES.get(name), network.get("hidden_size", network.get("dim"))
    if family == "sd3":
        width = SD3_WIDTH * network.get("depth", 0)
        family += ", two attentions" if network.get("x_block_self_attn_layers") else ""
    if family == "qwen-image":
        width = QWEN_WIDTH.get(network.get("num_layers", 0))
    return None if family is None or width is None else FAMILIES.get((family, width))
