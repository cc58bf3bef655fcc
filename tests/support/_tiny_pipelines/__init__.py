"""A tiny diffusers pipeline of every family, with random weights and a tokenizer made here: nothing is downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ._families import FAMILIES

__all__ = ["FAMILIES", "SETTINGS", "build", "fill", "saved"]

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
