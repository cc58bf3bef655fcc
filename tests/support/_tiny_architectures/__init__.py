"""A tiny MODEL of every flow class of the host, with random weights, and a text encoder and a VAE that fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from _host_differences import required_settings

from ._left_out import LEFT_OUT, sampling_of
from ._networks import ARCHITECTURES
from ._parts import Architecture
from ._text_encoder import make_clip
from ._vae import make_vae

__all__ = [
    "ARCHITECTURES",
    "LEFT_OUT",
    "Architecture",
    "Parts",
    "build",
    "build_model",
    "chroma",
    "flux",
    "known_to",
    "sampling_of",
]


class Parts(NamedTuple):
    """What a loader gives."""

    model: Any
    clip: Any
    vae: Any


def build(name: str, **network: Any) -> Parts:
    """MODEL, CLIP and VAE of ARCHITECTURES[name], made under inference_mode as nodes make them.

    network: other settings of the network.
    """
    architecture = ARCHITECTURES[name]
    model = build_model(name, **network)
    latent_format = model.model.latent_format
    assert latent_format.latent_channels == architecture.channels, f"{name} has {latent_format.latent_channels}"
    with torch.inference_mode():
        vae = make_vae(
            architecture.channels, architecture.factor, architecture.frames, latent_format.latent_dimensions == 3
        )
        return Parts(model, make_clip(architecture.text), vae)


def build_model(
    name: str, dtype: torch.dtype = torch.float32, computes_in: torch.dtype | None = None, **network: Any
) -> Any:
    """MODEL of ARCHITECTURES[name] as a loader makes it, under inference_mode, with random weights in `dtype`.

    computes_in: what the host casts the weights to at each call, if it is another dtype. network: as in build().
    """
    import comfy.supported_models
    from comfy import model_management
    from comfy.model_patcher import ModelPatcher

    architecture = ARCHITECTURES[name]
    settings = {**required_settings(architecture.network.get("image_model")), **architecture.network, **network}
    config = getattr(comfy.supported_models, architecture.config)(settings)
    config.unet_config.update(settings)  # some classes fix sizes that a checkpoint does not tell
    config.set_inference_dtype(dtype, computes_in)
    with torch.inference_mode():
        model = config.get_model({}, "", device=torch.device("cpu"))
        _fill(model.diffusion_model)
    return ModelPatcher(
        model, load_device=model_management.get_torch_device(), offload_device=model_management.unet_offload_device()
    )


def known_to(comfyui: Path) -> list[str]:
    """The names of the architectures that this host has; its code is read, not imported."""
    source = (comfyui / "comfy" / "supported_models.py").read_text("utf-8")

    def has(file: str, text: str) -> bool:
        return text in (comfyui / file).read_text("utf-8")

    return [
        name
        for name, each in ARCHITECTURES.items()
        if f"class {each.config}(" in source and (each.only_with is None or has(*each.only_with))
    ]


def _fill(network: torch.nn.Module) -> None:
    """Random values of about the size that a trained network's have: 1 in norms, outputs of about 1 elsewhere."""
    generator = torch.Generator().manual_seed(0)
    from_checkpoint = ((name, b) for name, b in network.named_buffers() if name == "pos_embed")
    for name, p in (*network.named_parameters(), *from_checkpoint):
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim > 1:
            p.copy_(noise / p[0].numel() ** 0.5)
        elif name.endswith(("weight", "scale")):
            p.copy_(1 + 0.1 * noise)
        else:
            p.copy_(0.1 * noise)


BUNDLED_TEXT = 64
"""The width of the bundled text encoder's tokens and of its pooled output."""


def flux() -> Any:
    """MODEL of the class of FLUX.1-dev, for the bundled text encoder and VAE."""
    return build_model("FLUX dev", context_in_dim=BUNDLED_TEXT, vec_in_dim=BUNDLED_TEXT)


def chroma() -> Any:
    """MODEL of the class of Chroma, for the bundled text encoder and VAE."""
    return build_model("Chroma", context_in_dim=BUNDLED_TEXT)
