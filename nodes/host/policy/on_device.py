"""The model on its device: loaded and offloaded by the host's own management, and alone there while it is trained."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

management: Any = comfy.model_management
EVERYTHING = 1e32
"""Bytes to free: as many as there are. The host's own number for it."""


def loaded_on(device: torch.device) -> list[Any]:
    """The host's entries of what is loaded on `device`, but for those whose model nobody holds any more."""
    return [each for each in management.current_loaded_models if each.device == device and each.model is not None]


class OnDevice:
    """How the model of `patcher` is loaded.

    offload: the share of its weights that stays in system memory. room: bytes of the device that a run needs beside
    them; what does not fit beside that room stays in system memory too.
    """

    def __init__(self, patcher: ModelPatcher, *, offload: float, room: float) -> None:
        self._patcher, self._offload, self.room = patcher, offload, room
        self._sent: WeakSet[ModelPatcher] = WeakSet()  # what was sent away once
        self._loaded = 0  # bytes that were on the device after the last load, without those that come and go

    @property
    def device(self) -> torch.device:
        """The device."""
        return self._patcher.load_device

    def holds(self) -> bool:
        """Whether the host still has the model as it was loaded.

        loaded_size() does not tell: of a dynamically loaded model it counts pages, which come and go when they are
        used, and the model of another clone of MODEL, patched otherwise, is as large.
        """
        listed = any(each.model is self._patcher for each in management.current_loaded_models)
        return listed and self._resident() >= self._loaded

    @torch.inference_mode()
    def load(self) -> None:
        """Load the model, as in the host's sampler."""
        models = self._models()
        if self._offload and not self.is_dynamic():
            self.clear()  # what is free is then known, and the host loads what the room below leaves of it
        management.load_models_gpu(models, memory_required=max(self.room, self._room_for_the_share()))
        self._loaded = self._resident()

    @torch.inference_mode()
    def clear(self) -> None:
        """Send away what else the host has on the device: text encoder, VAE, models of other nodes.

        They come back when they are used. What does so in each step, as the VAE, stays where there is room for both:
        moving it to and fro empties the caches of the device too.
        """
        own = [model for each in self._models() for model in (each, *each.model_patches_models())]
        there = loaded_on(self.device)
        kept = [each for each in there if any(each.model is model for model in own)]
        others = {each.model for each in there if each not in kept}
        if others and (others - set(self._sent) or management.get_free_memory(self.device) < self.room):
            self._sent.update(others)
            management.cleanup_models_gc()  # as before a load: the host cannot free what is gone already
            management.cleanup_models()
            management.free_memory(EVERYTHING, self.device, keep_loaded=kept)

    def is_dynamic(self) -> bool:
        """Whether the host loads parts of the model when they are used; `offload` is then the host's to choose."""
        return getattr(self._patcher, "is_dynamic", lambda: False)()

    def _models(self) -> list[ModelPatcher]:
        return [self._patcher, *self._patcher.get_nested_additional_models()]

    def _resident(self) -> int:
        return self._patcher.model.model_loaded_weight_memory

    def _room_for_the_share(self) -> float:
        """The room beside which (1 - offload) of the weights fit; the host takes reserved memory off as well."""
        if not self._offload or self.is_dynamic():
            return 0.0
        weights = (1 - self._offload) * self._patcher.model_size()
        free = management.get_free_memory(self.device) + self._resident()
        return free - weights - management.extra_reserved_memory()
