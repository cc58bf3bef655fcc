"""Models of the host's own classes with random weights, made on the device: nothing is downloaded.

At full size they have the shapes of FLUX.1-dev (11.9 G parameters) and of SD3.5 medium (2.5 G), with their text
encoders (T5-XXL in fp8, CLIP) and a VAE of their size; in miniature a few small layers, and the bundled text encoder
and VAE.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, NamedTuple

import comfy.ldm.models.autoencoder
import comfy.model_management as management
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.flux
import comfy.text_encoders.sd3_clip
import torch
from comfy.ldm.flux.model import FluxParams
from comfy.model_patcher import ModelPatcher
from torch import nn

from .host import pack_module

DTYPES = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
FLUX = {
    **{"image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "patch_size": 2},
    **{"vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072, "num_heads": 24, "axes_dim": [16, 56, 56]},
    **{"depth": 19, "depth_single_blocks": 38, "mlp_ratio": 4.0, "theta": 10_000, "qkv_bias": True},
}
SD35 = {
    **{"in_channels": 16, "out_channels": 16, "patch_size": 2, "input_size": None, "pos_embed_scaling_factor": None},
    **{"depth": 24, "adm_in_channels": 2048, "qk_norm": "rms", "x_block_self_attn_layers": list(range(13))},
    **{"num_patches": 384**2, "pos_embed_max_size": 384},
}
BUNDLED_TEXT = 64  # the width of the bundled text encoder's tokens and of its pooled output
SMALL_FLUX = {
    **{"vec_in_dim": BUNDLED_TEXT, "context_in_dim": BUNDLED_TEXT, "hidden_size": 48, "num_heads": 2},
    **{"axes_dim": [4, 10, 10], "depth": 2, "depth_single_blocks": 2, "mlp_ratio": 2.0},
}
SMALL_SD35 = {
    **{"depth": 2, "adm_in_channels": BUNDLED_TEXT, "x_block_self_attn_layers": [0]},
    **{"num_patches": 16**2, "pos_embed_max_size": 16},
}
NEWER = {"txt_ids_dims": []}
"""What newer hosts ask of FLUX besides."""


class Models(NamedTuple):
    """What a user's loaders give."""

    model: ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE

    def describe(self) -> dict[str, Any]:
        """The model's parameters, what they are kept in, and what it computes in."""
        weights = list(self.model.model.diffusion_model.parameters())
        computes_in = self.model.model.manual_cast_dtype or self.model.model.get_dtype()
        return {
            "parameters": sum(p.numel() for p in weights),
            "weights": str(weights[0].dtype).removeprefix("torch."),
            "computes_in": str(computes_in).removeprefix("torch."),
        }

    def resident(self) -> dict[str, float]:
        """The GB that each has on the device now, as far as the host manages it."""
        names = {id(self.model.model): "policy", id(self.clip.cond_stage_model): "text encoder"}
        names[id(self.vae.first_stage_model)] = "VAE"
        found: dict[str, float] = {}
        for loaded in management.current_loaded_models:
            if loaded.model is not None and loaded.device.type != "cpu":
                name = names.get(id(loaded.model.model), "other")
                found[name] = found.get(name, 0.0) + loaded.model_loaded_memory() / 2**30
        return found


@torch.inference_mode()
def build(shape: str, weights: str, *, miniature: bool) -> Models:
    """The models of a Part. shape: a key of SHAPES. They are made under inference mode, as by the host's loaders."""
    make, config = SHAPES[shape]
    model = _model(config(miniature), weights)
    if miniature:
        _, clip, vae = pack_module("nodes.host.tiny").load_tiny()
    else:
        clip, vae = _text_encoder(make), _vae()
    return Models(model, clip, vae)


def _flux(miniature: bool) -> Any:
    newer = {name: value for name, value in NEWER.items() if name in FluxParams.__dataclass_fields__}
    return comfy.supported_models.Flux(FLUX | newer | (SMALL_FLUX if miniature else {}))


def _sd35(miniature: bool) -> Any:
    config = SD35 | (SMALL_SD35 if miniature else {})
    text, width = BUNDLED_TEXT if miniature else 4096, 64 * config["depth"]
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": text, "out_features": width}}
    return comfy.supported_models.SD3(config | {"context_embedder_config": embedder})


def _flux_text() -> tuple[type, type]:
    return comfy.text_encoders.flux.FluxTokenizer, comfy.text_encoders.flux.flux_clip(dtype_t5=DTYPES["fp8"])


def _sd35_text() -> tuple[type, type]:
    made = comfy.text_encoders.sd3_clip.sd3_clip(clip_l=True, clip_g=True, t5=True, dtype_t5=DTYPES["fp8"])
    return comfy.text_encoders.sd3_clip.SD3Tokenizer, made


SHAPES: dict[str, Any] = {"flux": (_flux_text, _flux), "sd35": (_sd35_text, _sd35)}


def _model(config: Any, weights: str) -> ModelPatcher:
    """The MODEL of a host's configuration, as its loader makes it."""
    device = management.get_torch_device()
    supported = list(config.supported_inference_dtypes)
    dtype = DTYPES[weights] if weights in DTYPES else management.unet_dtype(supported_dtypes=supported)
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    offload_device = management.unet_offload_device()
    model = config.get_model({}, "").to(offload_device)
    fill(model.diffusion_model, device)
    return ModelPatcher(model, load_device=device, offload_device=offload_device)


def _text_encoder(make: Any) -> comfy.sd.CLIP:
    clip = comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(*make()))
    fill(clip.cond_stage_model, management.get_torch_device())
    return clip


def _vae() -> comfy.sd.VAE:
    """A VAE of FLUX's and SD3's size: 16 latent channels, a factor of 8."""
    parts = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    parts |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    modules = "comfy.ldm.modules.diffusionmodules.model"
    regularizer = {"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"}
    encoder, decoder = ({"target": f"{modules}.{name}", "params": parts} for name in ("Encoder", "Decoder"))
    made = comfy.ldm.models.autoencoder.AutoencodingEngine(
        regularizer_config=regularizer, encoder_config=encoder, decoder_config=decoder
    )
    fill(made, management.get_torch_device())
    vae = comfy.sd.VAE(sd=made.state_dict())
    vae.throw_exception_if_invalid()
    return vae


def fill(module: nn.Module, device: torch.device) -> None:
    """Draw weights from N(0, 0.25 / fan_in) on `device`, where it is fast; biases are 0, norms 1."""
    generator = torch.Generator(device).manual_seed(0)
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if tensor.ndim > 1:
            values = torch.randn(tensor.shape, generator=generator, device=device)
            tensor.copy_(values.mul_(0.5 / math.sqrt(tensor[0].numel())).to(tensor.dtype))
        elif tensor.is_floating_point():
            tensor.copy_(torch.full(tensor.shape, 0.0 if name.endswith("bias") else 1.0))
