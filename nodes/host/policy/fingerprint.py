"""A digest that identifies a base model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn


def fingerprint(model: ModelPatcher, patches: Mapping[str, Any]) -> str:
    """A digest of the names, shapes and first values of all weights without a patch, and of the patches.

    patches: those of a host MODEL, {weight name: patches}; of each, its name and strengths count.
    """
    digest = hashlib.blake2b(digest_size=16)
    with model.use_ejected():
        for name, value in _saved_tensors(model.model.diffusion_model):
            if f"diffusion_model.{name}" not in patches:
                digest.update(f"{name}{tuple(value.shape)}".encode())
                digest.update(value.data.flatten()[:64].to("cpu", torch.float32).numpy().tobytes())
    for key, each in sorted(patches.items()):
        digest.update(f"{key}{[(p[0], p[2]) for p in each]}".encode())
    return digest.hexdigest()


def _saved_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and persistent buffers themselves, under the names and in the order of state_dict().

    state_dict() itself makes views, which inference tensors refuse, and quantised layers put other things into it.
    """
    for path, module in model.named_modules(remove_duplicate=False):
        saved = {
            **module._parameters,
            **{name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set},
        }
        yield from (
            (f"{path}.{name}" if path else name, tensor) for name, tensor in saved.items() if tensor is not None
        )
