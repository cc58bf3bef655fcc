"""The parts of each pipeline: the classes of the released ones, at the smallest sizes that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers

from . import _text as text

Maker = Callable[[], Any]

ATTENTION: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16}
FLOW = diffusers.FlowMatchEulerDiscreteScheduler
BY_RESOLUTION: dict[str, Any] = {"use_dynamic_shifting": True, "base_image_seq_len": 256, "max_image_seq_len": 4096}


def autoencoder(channels: int = 16, scaling_factor: float = 0.3611, shift_factor: float | None = 0.1159) -> Any:
    """AutoencoderKL of 8 pixels a latent element each way."""
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
        latent_channels=channels,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def sd3(**network: Any) -> Any:
    tokenizer, encoder = text.clip(projected=True)
    tokenizer_2, encoder_2 = text.clip(projected=True)
    tokenizer_3, encoder_3 = text.t5(width=2 * text.WIDTH)
    transformer = diffusers.SD3Transformer2DModel(
        **ATTENTION,
        num_layers=2,
        sample_size=8,
        pos_embed_max_size=8,
        joint_attention_dim=2 * text.WIDTH,  # the tokens of both CLIPs side by side
        caption_projection_dim=32,
        pooled_projection_dim=2 * text.WIDTH,
        **network,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FLOW(shift=3.0),
        vae=autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
        text_encoder_3=encoder_3,
        tokenizer_3=tokenizer_3,
    )


def flux(guidance_embeds: bool, scheduler: Any) -> Any:
    tokenizer, encoder = text.clip(projected=False)
    tokenizer_2, encoder_2 = text.t5()
    transformer = diffusers.FluxTransformer2DModel(
        **ATTENTION,
        num_layers=2,
        num_single_layers=2,
        joint_attention_dim=text.WIDTH,
        pooled_projection_dim=text.WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    return diffusers.FluxPipeline(
        scheduler=scheduler,
        vae=autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )


def qwen_image() -> Any:
    tokenizer, encoder = text.qwen_vl()
    transformer = diffusers.QwenImageTransformer2DModel(
        **ATTENTION, num_layers=2, joint_attention_dim=text.WIDTH, axes_dims_rope=(4, 6, 6)
    )
    scheduler = FLOW(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    vae = diffusers.AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    return diffusers.QwenImagePipeline(
        scheduler=scheduler, vae=vae, text_encoder=encoder, tokenizer=tokenizer, transformer=transformer
    )


def z_image() -> Any:
    tokenizer, encoder = text.qwen3()
    transformer = diffusers.ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=text.WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    return diffusers.ZImagePipeline(
        scheduler=FLOW(shift=3.0), vae=autoencoder(), text_encoder=encoder, tokenizer=tokenizer, transformer=transformer
    )


def aura_flow() -> Any:
    tokenizer, encoder = text.t5(multilingual=True)
    transformer = diffusers.AuraFlowTransformer2DModel(
        **ATTENTION,
        sample_size=8,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        joint_attention_dim=text.WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    return diffusers.AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=autoencoder(4, 0.13025, None),
        transformer=transformer,
        scheduler=FLOW(shift=1.73),
    )


def lumina2() -> Any:
    tokenizer, encoder = text.gemma2()
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        hidden_size=48,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(8, 8, 8),
        axes_lens=(300, 64, 64),
        cap_feat_dim=text.WIDTH,
    )
    return diffusers.Lumina2Pipeline(
        transformer=transformer, scheduler=FLOW(shift=6.0), vae=autoencoder(), text_encoder=encoder, tokenizer=tokenizer
    )


def sana() -> Any:
    tokenizer, encoder = text.gemma2()
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=8,
        out_channels=8,
        **ATTENTION,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=text.WIDTH,
        sample_size=16,
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=8,
        attention_head_dim=8,
        encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",) * 2,
        decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",) * 2,
        encoder_block_out_channels=(8,) * 5,
        decoder_block_out_channels=(8,) * 5,
        encoder_layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        encoder_qkv_multiscales=((), (), (), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,), (5,)),
        scaling_factor=0.41407,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae, transformer=transformer, scheduler=scheduler
    )


def wan() -> Any:
    tokenizer, encoder = text.t5(multilingual=True)
    transformer = diffusers.WanTransformer3DModel(
        **ATTENTION, text_dim=text.WIDTH, freq_dim=32, ffn_dim=64, num_layers=2, rope_max_seq_len=32
    )
    vae = diffusers.AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.WanPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae, scheduler=scheduler, transformer=transformer
    )


def ltx() -> Any:
    tokenizer, encoder = text.t5(length=128)
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        **ATTENTION,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=text.WIDTH,
    )
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
    )
    scheduler = FLOW(
        **BY_RESOLUTION | {"base_image_seq_len": 1024}, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
    )
    return diffusers.LTXPipeline(
        scheduler=scheduler, vae=vae, text_encoder=encoder, tokenizer=tokenizer, transformer=transformer
    )


def flux2(pipeline: Any, words: tuple[Any, Any], **network: Any) -> Any:
    tokenizer, encoder = words
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=32,
        num_layers=2,
        num_single_layers=2,
        **ATTENTION,
        joint_attention_dim=3 * text.WIDTH,  # the tokens of three layers side by side
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        **network,
    )
    vae = diffusers.AutoencoderKLFlux2(block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=8)
    return pipeline(
        scheduler=FLOW(**BY_RESOLUTION, shift=3.0),
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )


FAMILIES: dict[str, Maker] = {
    "SD3": sd3,
    "SD3.5-M": lambda: sd3(qk_norm="rms_norm", dual_attention_layers=(0,)),
    "FLUX dev": lambda: flux(True, FLOW(**BY_RESOLUTION, shift=3.0)),
    "FLUX schnell": lambda: flux(False, FLOW(shift=1.0)),
    "Qwen-Image": qwen_image,
    "Z-Image": z_image,
    "AuraFlow": aura_flow,
    "Lumina 2": lumina2,
    "Sana": sana,
    "Wan": wan,
    "LTX": ltx,
    # The layers of the text encoder whose tokens the pipelines take, 9, 18, 27 and 10, 20, 30, force its depth.
    "FLUX.2 klein": lambda: flux2(diffusers.Flux2KleinPipeline, text.qwen3(28, causal=True), guidance_embeds=False),
    "FLUX.2": lambda: flux2(diffusers.Flux2Pipeline, text.mistral(31)),
}
"""{family: a function that makes its pipeline}; build() gives it weights."""
