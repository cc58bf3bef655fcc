"""Tiny models of the host's own classes with random weights, which take the bundled text encoder's conditioning and its
VAE's latents.
"""

from typing import Any

import torch

TEXT = 64  # the width of the bundled text encoder's tokens and of its pooled output
BLOCKS = {
    "patch_size": 2,
    "context_in_dim": TEXT,
    "hidden_size": 48,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 10, 10],
    "theta": 10_000,
    "qkv_bias": True,
}
FLUX = {
    **BLOCKS,
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": TEXT,
    "guidance_embed": True,
}
CHROMA = {
    **BLOCKS,
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 48,
    "hidden_dim": 32,
    "n_layers": 2,
}


NEWER = {"txt_ids_dims": [], "vec_in_dim": TEXT}
"""What newer hosts ask for besides."""


def flux() -> Any:
    """MODEL of the class of FLUX.1-dev."""
    from comfy.ldm.flux.model import FluxParams
    from comfy.supported_models import Flux

    return built(Flux(FLUX | known(FluxParams)))


def chroma() -> Any:
    """MODEL of the class of Chroma."""
    from comfy.ldm.chroma.model import ChromaParams
    from comfy.supported_models import Chroma

    return built(Chroma(CHROMA | known(ChromaParams)))


def known(params: type) -> dict[str, Any]:
    """The settings of NEWER that this host's class of parameters has."""
    return {name: value for name, value in NEWER.items() if name in params.__dataclass_fields__}


def built(config: Any) -> Any:
    """The MODEL that a loader makes of `config`, under inference_mode as nodes run, with random weights."""
    from comfy import model_management
    from comfy.model_patcher import ModelPatcher

    config.set_inference_dtype(torch.float32, None)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        model = config.get_model({}, "", device=torch.device("cpu"))
        for name, p in model.diffusion_model.named_parameters():
            if name.endswith("scale"):
                p.fill_(1.0)
            else:
                p.copy_(torch.randn(p.shape, generator=generator) * (0.2 if p.ndim > 1 else 0.02))
    return ModelPatcher(
        model, load_device=model_management.get_torch_device(), offload_device=model_management.unet_offload_device()
    )
