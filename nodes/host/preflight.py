"""What a run will need of the device: measured on the host's MODEL, CLIP and VAE, predicted by the core."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...pave_core.config.train import TrainConfig
from ...pave_core.memory.advice import changes_that_fit
from ...pave_core.memory.growth import Growth
from ...pave_core.memory.needs import Case, Measured, Seconds, needs_of
from ...pave_core.memory.report import GB, Preflight
from ...pave_core.scoring.mix import RewardMix
from ...pave_core.types import Reward
from .policy.conditioning import NativeCond
from .policy.measure import Call
from .policy.native import NativePolicy
from .policy.settings import PolicySettings, RolloutSettings

management: Any = comfy.model_management
PROMPT = "a photograph of a red fox in fresh snow at dawn, in front of a dark forest, high detail"
"""Where no prompts are known."""
DEPTH = 3
"""How deep a reward's objects are searched for networks."""


def preflight(
    policy: NativePolicy,
    cond: NativeCond,
    *,
    settings: PolicySettings,
    rollout: RolloutSettings,
    config: TrainConfig,
    reward: Reward | None,
    budget: float | None = None,
) -> Preflight:
    """Measure `policy`, which is in use, predict what a run of `config` needs, and let the policy reckon with it.

    cond: of a prompt. budget: bytes that the run may use; None: what the device has.
    """
    evaluation, call = policy.measure(cond)
    case = Case(config, policy.latent_shape)
    available = budget_of(settings.model) if budget is None else budget
    measured = _measured(policy, settings, call, reward=reward, evaluation=evaluation, area=case.area, config=config)
    needs = needs_of(measured, case, available)
    pixels = (rollout.picture.width, rollout.picture.height)
    changes = changes_that_fit(measured, case, available, pixels=pixels)
    if budget is None:
        policy.adopt(checkpointing=needs.checkpointing, room=needs.room)
    return Preflight(needs, changes, tuple(_remarks(settings.model, config, reward, call)))


def budget_of(model: ModelPatcher) -> float:
    """The bytes of MODEL's device that a run may use: what is free, and what the host's models hold and can give."""
    device = model.load_device
    there = (each for each in management.current_loaded_models if each.device == device)
    held = sum(each.model_loaded_memory() for each in there)
    if management.is_device_cpu(device):
        return management.get_free_memory(device) + held
    free = management.get_free_memory(device) + held - management.extra_reserved_memory()
    return min(free, _allowed(device))


def _allowed(device: torch.device) -> float:
    """What torch lets this process use: all, unless it was told a fraction."""
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", None)
    share = fraction(device) if fraction is not None and device.type == "cuda" else 1.0
    return share * management.get_total_memory(device)


def _measured(
    policy: NativePolicy,
    settings: PolicySettings,
    call: Call | None,
    *,
    reward: Reward | None,
    evaluation: Any,
    area: int,
    config: TrainConfig,
) -> Measured:
    device, model = settings.model.load_device, settings.model
    text, vae = settings.clip.patcher, settings.vae
    weights = model.model_size()
    eight = sum(p.numel() * (1 if p.ndim > 1 else p.element_size()) for p in model.model.parameters())
    parameters = sum(p.numel() for p in policy.parameters().values())
    found = Measured(
        evaluation=evaluation,
        weights=weights,
        weights_in_8_bits=min(weights, eight),
        parameters=parameters / config.lora.rank,
        decoder=vae.patcher.model_size() if vae.device == device else 0,
        decoding=_decoding(settings, policy.latent_shape) if vae.device == device else Growth(),
        text_encoder=text.model_size() if text.load_device == device else 0,
        reward=max((management.module_size(network) for network in networks_of(reward)), default=0),
    )
    if call is None:
        return found
    block = max(1.0, evaluation.block.at(area))
    kept = evaluation.checkpointed.at(area)
    return replace(
        found,
        seconds=Seconds(call.seconds.forward, call.seconds.backward),
        forward_blocks=found.forward_blocks if call.forward is None else call.forward / block,
        backward_blocks=found.backward_blocks if call.backward is None else max(0.0, call.backward - kept) / block,
    )


def _decoding(settings: PolicySettings, shape: tuple[int, ...]) -> Growth:
    """The bytes that the VAE works with for one image, as the host reckons."""
    *others, height, width = shape
    shapes = [(1, *others, height, width), (1, *others, 2 * height, 2 * width)]
    points = {
        h * w: float(settings.vae.memory_used_decode((*rest, h, w), settings.vae.vae_dtype)) for *rest, h, w in shapes
    }
    return Growth.through(points)


def networks_of(reward: Any, depth: int = DEPTH) -> Iterator[nn.Module]:
    """The networks that a reward holds, or the rewards of a mix."""
    if isinstance(reward, nn.Module):
        yield reward
    elif isinstance(reward, RewardMix):
        for part in reward.rewards:
            yield from networks_of(part, depth)
    elif depth and hasattr(reward, "__dict__"):
        for value in vars(reward).values():
            yield from networks_of(value, depth - 1)


def _remarks(model: ModelPatcher, config: TrainConfig, reward: Reward | None, call: Call | None) -> Iterator[str]:
    if config.memory.offload and getattr(model, "is_dynamic", lambda: False)():
        yield "ComfyUI loads this model dynamically and chooses itself what stays on the card: `offload` has no effect."
    if reward is None:
        yield "The reward is not connected: what it needs is not in these numbers."
    elif not any(True for _ in networks_of(reward)):
        yield "The reward shows no network: what it needs, if anything, is not in these numbers."
    if call is None:
        yield "A call of the network with its gradient did not fit, so that its time is not known."


def check(
    policy: PolicySettings,
    rollout: RolloutSettings,
    *,
    config: TrainConfig,
    prompt: str,
    reward: Reward | None,
    card: float,
) -> Preflight:
    """The preflight of settings, before a run. card: GB of another card than the one at hand; 0: this one."""
    native = NativePolicy(policy, rollout.picture, seed=config.run.seed, memory=config.memory)
    with native:
        native.sigmas(config.rollout.steps)
        cond = native.encode(prompt)
        native.probe(cond)
        return preflight(
            native,
            cond,
            settings=policy,
            rollout=rollout,
            config=config,
            reward=reward,
            budget=card * GB if card else None,
        )
