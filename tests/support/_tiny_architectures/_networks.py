"""The tiny settings of every flow architecture of ComfyUI 0.3.75 and 0.33, by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator

from ._parts import WIDTH, Architecture, Text


def mask(length: int = 6, hidden: int = 1) -> dict[str, Any]:
    """An attention mask (1, length) that hides the last `hidden` tokens."""
    return {"attention_mask": torch.tensor([[1] * (length - hidden) + [0] * hidden])}


# -- SD3

MMDIT = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,  # the width is 64 times that
    "num_blocks": 2,
    "adm_in_channels": WIDTH,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": WIDTH, "out_features": 128},
    },
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "pos_embed_scaling_factor": None,
    "qk_norm": "rms",
}

# -- FLUX

FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": WIDTH,
    "context_in_dim": WIDTH,
    "hidden_size": 48,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 10, 10],
    "theta": 10_000,
    "qkv_bias": True,
    "guidance_embed": True,
}
FLUX2 = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "axes_dim": [4, 4, 8, 8],
    "theta": 2000,
    "mlp_ratio": 3.0,
    "qkv_bias": False,
    "ops_bias": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
CHROMA = {
    **{name: value for name, value in FLUX.items() if name not in ("vec_in_dim", "guidance_embed")},
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 48,
    "hidden_dim": 32,
    "n_layers": 2,
}
RADIANCE = {
    **CHROMA,
    "image_model": "chroma_radiance",
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": 16,
    "nerf_hidden_size": 16,
    "nerf_mlp_ratio": 2,
    "nerf_depth": 2,
    "nerf_max_freqs": 4,
    "nerf_tile_size": 512,
    "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": torch.float32,
}
POOLED = Text(pooled=WIDTH)

# -- HunyuanVideo and HunyuanImage

HUNYUAN = {
    **{name: value for name, value in FLUX.items() if name != "image_model"},
    "image_model": "hunyuan_video",
    "patch_size": [1, 2, 2],
    "theta": 256,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
HUNYUAN15 = {
    **HUNYUAN,
    "in_channels": 65,  # latents, those of an image, a mask
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "vec_in_dim": None,
    "guidance_embed": False,
    "byt5": True,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,  # the class is known by it
}
HUNYUAN_IMAGE = {
    **HUNYUAN,
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "axes_dim": [12, 12],
    "vec_in_dim": None,
    "byt5": True,
}


def _byt5(generator: Generator) -> dict[str, Any]:
    return {"conditioning_byt5small": torch.randn(1, 4, 1472, generator=generator)}


# -- Wan

WAN = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "dim": 48,
    "out_dim": 16,
    "in_dim": 16,
    "num_heads": 2,
    "ffn_dim": 96,
    "num_layers": 2,
    "patch_size": (1, 2, 2),
    "freq_dim": 32,
    "text_dim": WIDTH,
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
}


def _wan(config: str, **network: Any) -> Architecture:
    return Architecture(config, {**WAN, **network}, frames=4, family="Wan")


# -- Lumina 2

LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 48,
    "cap_feat_dim": WIDTH,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "n_heads": 2,
    "n_kv_heads": 2,
    "axes_dims": [8, 8, 8],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10_000.0,
    "ffn_dim_multiplier": 1.0,
    "multiple_of": 16,
}
ZIMAGE = {
    **LUMINA,
    "dim": 256,  # the width of its modulation: less does not fit
    "n_heads": 8,
    "n_kv_heads": 8,
    "axes_dims": [8, 12, 12],
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 8,
}

# -- others

COSMOS = {
    "image_model": "cosmos_predict2",
    "max_img_h": 32,
    "max_img_w": 32,
    "max_frames": 16,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 48,
    "concat_padding_mask": True,
    "crossattn_emb_channels": WIDTH,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "rope_enable_fps_modulation": False,
}
KANDINSKY = {
    "image_model": "kandinsky5",
    "model_dim": 64,
    "ff_dim": 96,
    "time_dim": 32,
    "in_text_dim": WIDTH,
    "in_text_dim2": WIDTH,
    "num_text_blocks": 1,
    "num_visual_blocks": 2,
    "axes_dims": (8, 12, 12),
}

ARCHITECTURES: dict[str, Architecture] = {
    "SD3": Architecture("SD3", MMDIT, text=POOLED, family="SD3"),
    "SD3.5-M": Architecture("SD3", {**MMDIT, "x_block_self_attn_layers": [0]}, text=POOLED, family="SD3"),
    "AuraFlow": Architecture(
        "AuraFlow",
        {
            "in_channels": 4,
            "out_channels": 4,
            "dim": 48,
            "n_layers": 2,
            "n_double_layers": 1,
            "n_heads": 2,
            "global_conddim": 48,
            "cond_seq_dim": WIDTH,
            "max_seq": 64,
        },
        channels=4,
        family="AuraFlow",
    ),
    "FLUX dev": Architecture("Flux", FLUX, text=POOLED, family="FLUX"),
    "FLUX schnell": Architecture("FluxSchnell", {**FLUX, "guidance_embed": False}, text=POOLED, family="FLUX"),
    "FLUX Fill": Architecture("FluxInpaint", {**FLUX, "in_channels": 96}, text=POOLED, family="FLUX"),
    "FLUX.2": Architecture("Flux2", FLUX2, channels=128, factor=16, family="FLUX.2"),
    "Ovis": Architecture(
        "FluxSchnell",
        {
            **FLUX,
            "vec_in_dim": None,
            "guidance_embed": False,
            "yak_mlp": True,
            "txt_norm": True,
            "txt_ids_dims": [1, 2],
        },
        family="FLUX",
        only_with=("comfy/ldm/flux/model.py", "yak_mlp"),
    ),
    "LongCat": Architecture(
        "LongCatImage",
        {**FLUX, "vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [1, 2]},
        family="FLUX",
    ),
    "Chroma": Architecture("Chroma", CHROMA, family="Chroma"),
    "Chroma Radiance": Architecture("ChromaRadiance", RADIANCE, channels=3, factor=1, family="Chroma"),
    "Lumina 2": Architecture("Lumina2", LUMINA, text=Text(extra=lambda _: mask(hidden=0)), family="Lumina 2"),
    "NewBie": Architecture(
        "Lumina2",
        {**LUMINA, "clip_text_dim": WIDTH},
        text=Text(pooled=WIDTH, extra=lambda _: mask(hidden=0)),
        family="Lumina 2",
        only_with=("comfy/ldm/lumina/model.py", "clip_text_dim"),
    ),
    "Z-Image": Architecture("ZImage", ZIMAGE, family="Lumina 2"),
    "Z-Image-Pixel": Architecture(
        "ZImagePixelSpace",
        {
            **ZIMAGE,
            "image_model": "zimage_pixel",
            "patch_size": 16,
            "in_channels": 3,
            "decoder_in_channels": 768,
            "decoder_hidden_size": 32,
            "decoder_num_res_blocks": 1,
            "decoder_max_freqs": 4,
        },
        channels=3,
        factor=1,
        family="Lumina 2",
    ),
    "HiDream": Architecture(
        "HiDream",
        {
            "image_model": "hidream",
            "attention_head_dim": 32,
            "axes_dims_rope": [16, 8, 8],
            "caption_channels": [WIDTH, WIDTH],
            "max_resolution": [16, 16],
            "in_channels": 16,
            "out_channels": 16,
            "llama_layers": [0, 1],
            "num_attention_heads": 2,
            "num_routed_experts": 2,
            "num_activated_experts": 2,  # all: which are chosen jumps, and so would finite differences
            "num_layers": 1,
            "num_single_layers": 1,
            "patch_size": 2,
            "text_emb_dim": WIDTH,
        },
        text=Text(
            pooled=WIDTH,
            extra=lambda g: {"conditioning_llama3": torch.randn(1, 2, 6, WIDTH, generator=g)},
        ),
        family="HiDream",
    ),
    "Qwen-Image": Architecture(
        "QwenImage",
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 2,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "joint_attention_dim": WIDTH,
            "axes_dims_rope": (8, 8, 8),
        },
        text=Text(extra=lambda _: mask()),
        family="Qwen-Image",
    ),
    "OmniGen 2": Architecture(
        "Omnigen2",
        {
            "image_model": "omnigen2",
            "axes_dim_rope": [8, 8, 8],
            "axes_lens": [64, 64, 64],
            "hidden_size": 48,
            "in_channels": 16,
            "multiple_of": 16,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "patch_size": 2,
            "text_feat_dim": WIDTH,
            "timestep_scale": 1000.0,
        },
        text=Text(extra=lambda _: mask(hidden=0)),
        family="OmniGen 2",
    ),
    "Mochi": Architecture(
        "GenmoMochi",
        {
            "image_model": "mochi_preview",
            "depth": 2,
            "patch_size": 2,
            "num_heads": 2,
            "hidden_size_x": 48,
            "hidden_size_y": 32,
            "mlp_ratio_x": 256.0,  # the network takes a hidden width of 1536 * 8 alone
            "mlp_ratio_y": 2.0,
            "learn_sigma": False,
            "in_channels": 12,
            "qk_norm": True,
            "qkv_bias": False,
            "out_bias": True,
            "attn_drop": 0.0,
            "patch_embed_bias": True,
            "posenc_preserve_area": True,
            "timestep_mlp_bias": True,
            "attend_to_padding": False,
            "timestep_scale": 1000.0,
            "use_t5": True,
            "t5_feat_dim": WIDTH,
            "t5_token_length": 6,
        },
        channels=12,
        text=Text(extra=lambda _: mask()),
        frames=6,
        family="Mochi",
    ),
    "LTXV": Architecture(
        "LTXV",
        {
            "image_model": "ltxv",
            "in_channels": 128,
            "cross_attention_dim": 48,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "caption_channels": WIDTH,
            "num_layers": 2,
        },
        channels=128,
        text=Text(extra=lambda _: mask()),
        factor=32,
        frames=8,
        size=128,
        family="LTXV",
        overwrites=True,
    ),
    "HunyuanVideo": Architecture("HunyuanVideo", HUNYUAN, text=POOLED, frames=4, family="Hunyuan"),
    "HunyuanVideo I2V": Architecture(
        "HunyuanVideoI2V", {**HUNYUAN, "in_channels": 33}, text=POOLED, frames=4, family="Hunyuan"
    ),
    "SkyReels I2V": Architecture(
        "HunyuanVideoSkyreelsI2V", {**HUNYUAN, "in_channels": 32}, text=POOLED, frames=4, family="Hunyuan"
    ),
    "HunyuanVideo 1.5": Architecture(
        "HunyuanVideo15",
        HUNYUAN15,
        channels=32,
        text=Text(extra=_byt5),
        factor=16,
        frames=4,
        family="Hunyuan",
    ),
    "HunyuanImage 2.1": Architecture(
        "HunyuanImage21",
        HUNYUAN_IMAGE,
        channels=64,
        text=Text(extra=_byt5),
        factor=32,
        size=128,
        family="Hunyuan",
    ),
    "Wan 2.1": _wan("WAN21_T2V"),
    "Wan 2.1 I2V": _wan("WAN21_I2V", model_type="i2v", in_dim=36),
    "Wan 2.1 Fun Control": _wan("WAN21_FunControl2V", model_type="i2v", in_dim=48),
    "Wan 2.1 Camera": _wan("WAN21_Camera", model_type="camera", in_dim=32),
    "Wan 2.2 Camera": _wan("WAN22_Camera", model_type="camera_2.2", in_dim=36),
    "Wan 2.1 VACE": _wan("WAN21_Vace", model_type="vace", vace_layers=1, vace_in_dim=96),
    "Wan 2.1 HuMo": _wan("WAN21_HuMo", model_type="humo"),
    "Wan 2.2 S2V": _wan("WAN22_S2V", model_type="s2v", audio_inject_layers=[0]),
    "Wan 2.2 Animate": _wan("WAN22_Animate", model_type="animate", in_dim=36),
    "Wan 2.2 5B": Architecture(
        "WAN22_T2V",
        {**WAN, "in_dim": 48, "out_dim": 48},
        channels=48,
        factor=16,
        frames=4,
        family="Wan",
    ),
    "CausalAR": _wan("WAN21_CausalAR_T2V"),
    "Wan Animate 2": _wan("WAN_Animate2", model_type="animate2", in_dim=36),
    "Wan SCAIL": _wan("WAN21_SCAIL", model_type="scail", in_dim=20),
    "Wan SCAIL 2": _wan("WAN21_SCAIL2", model_type="scail2", in_dim=20),
    "WanDancer": _wan("WAN22_WanDancer", model_type="wandancer", in_dim=36, audio_inject_layers=[0]),
    "Cosmos-Predict2": Architecture("CosmosT2IPredict2", COSMOS, frames=4, family="Cosmos-Predict2"),
    "Cosmos-Predict2 I2V": Architecture(
        "CosmosI2VPredict2", {**COSMOS, "in_channels": 17}, frames=4, family="Cosmos-Predict2"
    ),
    "Anima": Architecture(
        "Anima",
        {**COSMOS, "image_model": "anima", "crossattn_emb_channels": 1024},  # what its text adapter gives
        text=Text(
            width=1024,
            extra=lambda g: {
                "t5xxl_ids": torch.randint(0, 32_000, (6,), generator=g),
                "t5xxl_weights": torch.ones(6),
            },
        ),
        family="Cosmos-Predict2",
    ),
    "Boogu": Architecture(
        "Boogu",
        {
            "image_model": "boogu",
            "hidden_size": 48,
            "num_layers": 1,
            "num_double_stream_layers": 1,
            "num_refiner_layers": 1,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "multiple_of": 16,
            "axes_dim_rope": (8, 8, 8),
            "axes_lens": (64, 64, 64),
            "instruction_feat_dim": WIDTH,
        },
        text=Text(extra=lambda _: mask(hidden=0)),
        family="OmniGen 2",
    ),
    "Ideogram 4": Architecture(
        "Ideogram4",
        {
            "image_model": "ideogram4",
            "in_channels": 128,
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 24,
            "intermediate_size": 96,
            "adaln_dim": 32,
            "llm_features_dim": WIDTH,
            "mrope_section": (4, 4, 4),
        },
        channels=128,
        text=Text(extra=lambda _: mask()),
        factor=16,
        family="Ideogram 4",
    ),
    "Krea 2": Architecture(
        "Krea2",
        {
            "image_model": "krea2",
            "features": 64,
            "tdim": 32,
            "txtdim": 16,
            "heads": 2,
            "kvheads": 1,
            "multiplier": 2,
            "layers": 2,
            "txtlayers": 2,
            "txtheads": 1,
            "txtkvheads": 1,
        },
        family="Krea 2",
    ),
    "MageFlow": Architecture(
        "MageFlow",
        {
            "image_model": "mage_flow",
            "in_channels": 128,
            "out_channels": 128,
            "num_layers": 2,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "joint_attention_dim": WIDTH,
            "axes_dims_rope": (8, 8, 8),
        },
        channels=128,
        factor=16,
        family="Qwen-Image",
    ),
    "JoyImage": Architecture(
        "JoyImage",
        {
            "image_model": "joyimage",
            "hidden_size": 256,  # heads are 128 wide
            "num_attention_heads": 2,
            "text_dim": WIDTH,
            "mlp_width_ratio": 2.0,
            "num_layers": 2,
        },
        family="JoyImage",
    ),
    "Lens": Architecture(
        "Lens",
        {
            "image_model": "lens",
            "num_layers": 2,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "enc_hidden_dim": WIDTH // 2,
            "axes_dims_rope": (8, 8, 8),
            "selected_layer_index": (0, 1),
        },
        channels=128,
        text=Text(extra=lambda _: mask()),
        factor=16,
        family="Lens",
    ),
    "Kandinsky 5": Architecture(
        "Kandinsky5", {**KANDINSKY, "visual_embed_dim": 132}, text=POOLED, frames=4, family="Kandinsky 5"
    ),
    "Kandinsky 5 Image": Architecture(
        "Kandinsky5Image", {**KANDINSKY, "visual_embed_dim": 64}, text=POOLED, family="Kandinsky 5"
    ),
    "Ernie": Architecture(
        "ErnieImage",
        {
            "image_model": "ernie",
            "hidden_size": 48,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 96,
            "text_in_dim": WIDTH,
            "rope_axes_dim": (8, 8, 8),
        },
        channels=128,
        factor=16,
        family="Ernie",
    ),
    "PixelDiT": Architecture(
        "PixelDiTT2I",
        {
            "image_model": "pixeldit_t2i",
            "num_groups": 2,
            "hidden_size": 48,
            "pixel_hidden_size": 8,
            "pixel_attn_hidden_size": 48,
            "pixel_num_groups": 2,
            "patch_depth": 2,
            "pixel_depth": 1,
            "txt_embed_dim": WIDTH,
            "txt_max_length": 8,
        },
        channels=3,
        text=Text(extra=lambda _: mask()),
        factor=1,
        family="PixelDiT",
        overwrites=True,
    ),
    "HiDream-O1": Architecture(
        "HiDreamO1",
        {
            "image_model": "hidream_o1",
            "text_config_overrides": {
                "hidden_size": 48,
                "intermediate_size": 96,
                "num_hidden_layers": 4,  # enough for the bytes to show that they are computed again
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 24,
                "rope_dims": [4, 4, 4],
            },
            "vision_config_overrides": {
                "hidden_size": 32,
                "num_heads": 2,
                "intermediate_size": 32,
                "depth": 1,
                "deepstack_visual_indexes": (),
                "num_position_embeddings": 16,
            },
        },
        channels=3,
        text=Text(
            width=1,
            extra=lambda g: {
                "text_input_ids": torch.cat(
                    [torch.randint(0, 1000, (1, 6), generator=g), torch.tensor([[151669, 151673]])], 1
                )
            },
        ),
        factor=1,
        family="HiDream-O1",
    ),
}
