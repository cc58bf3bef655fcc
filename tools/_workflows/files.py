"""Where the files of the workflows for real models are: what ComfyUI's page shows of models that are missing.

The addresses of the loaders' files are those in ComfyUI's own templates. Nothing here downloads anything.
"""

from __future__ import annotations

from typing import Any

FLUX_TEXT = "comfyanonymous/flux_text_encoders/resolve/main"
QWEN = "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files"
Z_IMAGE = "Comfy-Org/z_image_turbo/resolve/main/split_files"

PLACES: dict[str, tuple[str, str]] = {
    "flux1-dev.safetensors": ("diffusion_models", "Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors"),
    "clip_l.safetensors": ("text_encoders", f"{FLUX_TEXT}/clip_l.safetensors"),
    "t5xxl_fp8_e4m3fn_scaled.safetensors": ("text_encoders", f"{FLUX_TEXT}/t5xxl_fp8_e4m3fn_scaled.safetensors"),
    "ae.safetensors": ("vae", "Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors"),
    "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors": (
        "checkpoints",
        "Comfy-Org/stable-diffusion-3.5-fp8/resolve/main/sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
    ),
    "z_image_turbo_bf16.safetensors": (
        "diffusion_models",
        f"{Z_IMAGE}/diffusion_models/z_image_turbo_bf16.safetensors",
    ),
    "qwen_3_4b.safetensors": ("text_encoders", f"{Z_IMAGE}/text_encoders/qwen_3_4b.safetensors"),
    "qwen_image_fp8_e4m3fn.safetensors": (
        "diffusion_models",
        f"{QWEN}/diffusion_models/qwen_image_fp8_e4m3fn.safetensors",
    ),
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": (
        "text_encoders",
        f"{QWEN}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
    ),
    "qwen_image_vae.safetensors": ("vae", f"{QWEN}/vae/qwen_image_vae.safetensors"),
    "Chroma1-HD-fp8_scaled_rev2.safetensors": (
        "diffusion_models",
        "silveroxides/Chroma1-HD-fp8-scaled/resolve/main/Chroma1-HD-fp8_scaled_rev2.safetensors",
    ),
    "open_clip_model.safetensors": (
        "reward_models",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K/resolve/main/open_clip_model.safetensors",
    ),
    "HPS_v2.1_compressed.pt": ("reward_models", "xswu/HPSv2/resolve/main/HPS_v2.1_compressed.pt"),
}
"""{file: (its folder in models/, its address on Hugging Face)}."""


def address(name: str) -> str:
    """Where the file is to be had."""
    return f"https://huggingface.co/{PLACES[name][1]}"


def files_of(node: dict[str, Any]) -> list[dict[str, str]]:
    """properties.models of a node as a workflow's file has it: the files that its widgets name."""
    values = node.get("widgets_values") or []
    named = [value for value in values if isinstance(value, str) and value in PLACES]
    return [{"name": name, "url": address(name), "directory": PLACES[name][0]} for name in named]
