"""A tiny diffusers pipeline of every family, with random weights and a tokenizer made here: nothing is downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ._families import FAMILIES

__all__ = ["FAMILIES", "SETTINGS", "build", "bundled_as_pipeline", "fill", "saved"]

SETTINGS: dict[str, dict[str, Any]] = {
    "Sana": {"use_resolution_binning": False},  # it would draw 512 pixels and more, and scale the image down
    "Wan": {"num_frames": 5},
    "LTX": {"num_frames": 9},
}
"""What a call of a pipeline needs besides prompt, steps, height and width, so that it is quick."""

_QUERY_OR_KEY = re.compile(r"norm_(added_)?[qk]\.")


def build(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """The pipeline FAMILIES[name], on the CPU. Images of 64 pixels have 16 tokens or so, by the family."""
    pipeline = FAMILIES[name]()
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            fill(part.eval(), seed)  # as from_pretrained() gives it: no dropout
    pipeline.set_progress_bar_config(disable=True)
    return pipeline if dtype == torch.float32 else pipeline.to(dtype=dtype)


def saved(name: str, folder: str | Path, dtype: torch.dtype = torch.float32, seed: int = 0) -> Path:
    """Write the pipeline of build() as a diffusers folder; the folder."""
    build(name, dtype, seed).save_pretrained(folder, safe_serialization=True)
    return Path(folder)


def fill(network: nn.Module, seed: int = 0) -> None:
    """Random values of about the size that a trained network's have: 1 in norms, outputs of about 1 elsewhere.

    None stays 0, so that what a network gives depends on all that it is given.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim > 1:
                p.copy_(noise / p[0].numel() ** 0.5)
            elif name.endswith(("weight", "gamma")):
                # A query and key of unit length attend to all tokens alike, and few of a text's are the prompt's.
                p.copy_((3 if _QUERY_OR_KEY.search(name) else 1) + 0.1 * noise)
            else:
                p.copy_(0.1 * noise)


def bundled_as_pipeline(root: Path, folder: Path) -> Path:
    """Write an SD3 pipeline whose network has the bundled model's weights; what is around it is random."""
    import diffusers
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
    from safetensors.torch import load_file

    pipeline = build("SD3")
    settings = {name: value for name, value in pipeline.transformer.config.items() if not name.startswith("_")}
    settings |= {"num_attention_heads": 2, "attention_head_dim": 64, "caption_projection_dim": 128}
    network = diffusers.SD3Transformer2DModel(**settings | {"qk_norm": "rms_norm"})
    weights = load_file(root / "assets" / "tiny" / "diffusion_model.safetensors")
    weights["pos_embed"] = network.pos_embed.pos_embed  # a table of sines, which the file does without
    network.load_state_dict(convert_sd3_transformer_checkpoint_to_diffusers(weights))
    pipeline.transformer = network.eval()
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
