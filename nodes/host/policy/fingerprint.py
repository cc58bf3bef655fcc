"""A digest that identifies a base model: the same for the same file on every host, in every dtype that it is loaded in.

What counts of the weights is in pave_core/policies/fingerprint.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....pave_core.policies.fingerprint import digest_of

VERSION = "2-"
"""What a fingerprint begins with; those of 0.3.0 have nothing there."""


def fingerprint(model: ModelPatcher, patches: Mapping[str, Any]) -> str:
    """The digest of the weights without a patch, and of the patches.

    patches: those of a host MODEL, {weight name: patches}; of each, its name and strengths count.
    """
    with model.use_ejected(), torch.inference_mode():
        digest = digest_of(
            weight
            for name, weight in model.model.diffusion_model.named_parameters()
            if f"diffusion_model.{name}" not in patches
        )
    return VERSION + _with_patches(digest, patches)


def is_of(print: str, model: ModelPatcher, patches: Mapping[str, Any]) -> bool:
    """Whether a fingerprint, of this version or of 0.3.0, is that of a model and its patches."""
    make = fingerprint if print.startswith(VERSION) else _of_0_3_0
    return print == make(model, patches)


def _with_patches(digest: Any, patches: Mapping[str, Any]) -> str:
    for key, each in sorted(patches.items()):
        digest.update(f"{key}{[(p[0], p[2]) for p in each]}".encode())
    return digest.hexdigest()


def _of_0_3_0(model: ModelPatcher, patches: Mapping[str, Any]) -> str:
    """The fingerprint of 0.3.0: of names, shapes and first values of all weights as the host has loaded them."""
    digest = hashlib.blake2b(digest_size=16)
    with model.use_ejected():
        for name, value in _saved_tensors(model.model.diffusion_model):
            if f"diffusion_model.{name}" not in patches:
                digest.update(f"{name}{tuple(value.shape)}".encode())
                digest.update(value.data.flatten()[:64].to("cpu", torch.float32).numpy().tobytes())
    return _with_patches(digest, patches)


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
