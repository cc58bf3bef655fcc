"""A prompt's conditioning as the host's sampler passes it to the loaded model, with its hooks, schedules and patches.

A velocity is a function of (x, sigma). The host's sampler depends also on how far it has come down the schedule: the
keyframes of hooks only go forward, and whatever acts by the time step reads that of a batch's first row. Keyframes and
Prepared.follows_sigma make both functions of sigma.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import comfy.hooks
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .shelf import with_tensors

SCHEDULED = ("hooks", "timestep_start", "timestep_end", "control")
"""The keys that only a conditioning has that may act by the time step."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that the host's sampler calls the network with, except x and sigma. Each is equal to itself alone."""

    conds: dict[str, list[dict[str, Any]]]  # "positive" and "negative"
    options: dict[str, Any]  # model_options, with what hooks, wrappers and patches have put into them

    @cached_property
    def follows_sigma(self) -> bool:
        """Whether conditioning or patches may act by the time step."""
        if any(key in each for cond in self.conds.values() for each in cond for key in SCHEDULED):
            return True
        return any(_holds_anything(value) for name, value in self.options.items() if name != "to_load_options")

    @property
    def one_by_one(self) -> bool:
        """Whether a call takes a single item: the host's context windows look up the step of one."""
        return self.options.get("context_handler") is not None

    def keyframed_hooks(self) -> Iterator[comfy.hooks.Hook]:
        """The hooks whose strength depends on the time step, each once."""
        found = {
            id(hook): hook
            for cond in self.conds.values()
            for each in cond
            for hook in getattr(each.get("hooks"), "hooks", ())
        }
        return (hook for hook in found.values() if not hook.hook_keyframe.is_empty())


@dataclass(eq=False)
class NativeCond:
    """A prompt's conditioning, as the text encoder gave it. Each is equal to itself alone."""

    positive: list[Any]


def encode(clip: comfy.sd.CLIP, text: str, guidance: float) -> list[Any]:
    """The CONDITIONING of `text`, as CLIPTextEncode and FluxGuidance make it, in tensors that autograd accepts.

    guidance: below 0, no FluxGuidance: the host then takes the model's own.
    """
    with torch.inference_mode():
        cond = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    if guidance >= 0:
        cond = node_helpers.conditioning_set_values(cond, {"guidance": guidance})
    return with_tensors(cond, lambda tensor: tensor.clone() if tensor.is_inference() else tensor)


@torch.no_grad()
def prepare(patcher: ModelPatcher, positive: list[Any], negative: list[Any], latent_shape: tuple[int, ...]) -> Prepared:
    """Do what the host's sampler (CFGGuider.sample) does before its first step.

    Injections are taken out meanwhile: hooks look for layers by the names that the host knows, and skip those that they
    do not find.
    """
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(positive, negative)
    conds = {name: [each.copy() for each in cond] for name, cond in guider.original_conds.items()}
    options = comfy.model_patcher.create_model_options_clone(patcher.model_options)
    device = patcher.load_device
    with patcher.use_ejected():
        comfy.samplers.preprocess_conds_hooks(conds)
        if comfy.samplers.get_total_hook_groups_in_conds(conds) <= 1:
            patcher.hook_mode = comfy.hooks.EnumHookMode.MinVram
        comfy.sampler_helpers.prepare_model_patcher(patcher, conds, options)
        comfy.samplers.filter_registered_hooks_on_conds(conds, options)
        comfy.samplers.cast_to_load_options(options, device=device, dtype=patcher.model_dtype())
        empty = torch.zeros(1, *latent_shape, device=device)
        conds = comfy.samplers.process_conds(patcher.model, empty, conds, device, latent_image=empty, seed=0)
    return Prepared(conds, options)


class Keyframes:
    """The strengths at which hooks are applied to a model's weights at the moment."""

    def __init__(self, patcher: ModelPatcher) -> None:
        self._patcher = patcher
        self._applied: dict[Any, float] = {}

    def go_to(self, prepared: Prepared, sigmas: Sequence[float], sigma: Tensor) -> None:
        """Set the hooks of `prepared` as if a sampler had come down the schedule `sigmas` to `sigma` (scalar)."""
        strengths = {}
        for hook in prepared.keyframed_hooks():
            keyframes = hook.hook_keyframe.clone()
            seen = {"sample_sigmas": sigma.new_tensor(sigmas)}
            for passed in (each for each in sigmas if each > sigma):
                keyframes.prepare_current_keyframe(sigma.new_tensor(passed), seen)  # pyright: ignore[reportArgumentType]
            keyframes.prepare_current_keyframe(sigma, seen)  # pyright: ignore[reportArgumentType]
            hook.hook_keyframe = keyframes
            strengths[hook.hook_ref] = keyframes.strength
        if strengths != self._applied:
            self._patcher.clear_cached_hook_weights()  # the next call of the network applies the hooks again
            self._applied = strengths


def _holds_anything(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_anything, value.values()))
    return len(value) > 0 if isinstance(value, list | tuple) else value is not None
