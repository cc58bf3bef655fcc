"""What a run will need of the device: measured on the host's MODEL, CLIP and VAE, predicted by the core."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...pave_core.config.train import TrainConfig
from ...pave_core.errors import ConfigError, PaveError, in_words
from ...pave_core.memory.advice import changes_that_fit
from ...pave_core.memory.calls import Call
from ...pave_core.memory.growth import Growth
from ...pave_core.memory.needs import Case, Evaluation, Measured, needs_of
from ...pave_core.memory.pace import Duration
from ...pave_core.memory.report import GB, Preflight
from ...pave_core.rollout.run_batches import RunBatches
from ...pave_core.scoring.mix import RewardMix
from ...pave_core.seeds import seeded
from ...pave_core.types import Decoder, Reward
from .memory import free_caches
from .policy.conditioning import NativeCond
from .policy.decoder import NativeDecoder
from .policy.native import NativePolicy
from .policy.on_device import loaded_on
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
    """Measure `policy`, which is in use, and predict what a run of `config` needs.

    cond: of a prompt. budget: bytes that the run may use; None: what the device has, and the policy reckons with the
    prediction from here on.
    """
    evaluation, call = policy.measure(cond, config.rollout.batch_size)
    case = Case(config, policy.latent_shape)
    parameters = sum(p.numel() for p in policy.parameters().values()) / config.lora.rank
    measured = _measured(settings, case, evaluation, parameters=parameters, reward=reward)
    if call is not None:
        measured = _with_call(measured, call, case.area)
    available = budget_of(settings.model) if budget is None else budget
    needs = needs_of(measured, case, available)
    if budget is None:
        policy.adopt(checkpointing=needs.checkpointing, room=needs.room)
    changes = changes_that_fit(measured, case, available, pixels=(rollout.picture.width, rollout.picture.height))
    return Preflight(needs, changes, tuple(_remarks(settings.model, config, reward, call)))


def budget_of(model: ModelPatcher) -> float:
    """The bytes of MODEL's device that a run may use: what is free, and what the host's models hold and can give."""
    device = model.load_device
    held = sum(each.model_loaded_memory() for each in loaded_on(device))
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
    settings: PolicySettings, case: Case, evaluation: Evaluation, *, parameters: float, reward: Reward | None
) -> Measured:
    """The sizes of what the settings bring along. parameters: of an adapter of rank 1."""
    model, text, vae = settings.model, settings.clip.patcher, settings.vae
    weights = model.model_size()
    in_8_bits = sum(p.numel() * (1 if p.ndim > 1 else p.element_size()) for p in model.model.parameters())
    beside = vae.device == model.load_device
    return Measured(
        evaluation=evaluation,
        weights=weights,
        weights_in_8_bits=min(weights, in_8_bits),
        parameters=parameters,
        decoder=vae.patcher.model_size() if beside else 0,
        decoding=_decoding(settings, case.shape) if beside else Growth(),
        text_encoder=text.model_size() if text.load_device == model.load_device else 0,
        reward=max((management.module_size(network) for network in networks_of(reward)), default=0),
    )


def _with_call(measured: Measured, call: Call, area: int) -> Measured:
    """`measured` with the seconds of a call, and its working sets where the device's allocator told them."""
    block, kept = max(1.0, measured.evaluation.block.at(area)), measured.evaluation.checkpointed.at(area)
    forward, backward = measured.forward_blocks, measured.backward_blocks
    if call.forward is not None and call.backward is not None:
        forward, backward = call.forward / block, max(0.0, call.backward - kept) / block
    return replace(measured, seconds=call.seconds, forward_blocks=forward, backward_blocks=backward)


def _decoding(settings: PolicySettings, shape: tuple[int, ...]) -> Growth:
    """The bytes that the VAE works with for one image, as the host reckons."""
    *others, height, width = shape
    sides = [(height, width), (2 * height, 2 * width)]
    reckoned = {
        h * w: float(settings.vae.memory_used_decode((1, *others, h, w), settings.vae.vae_dtype)) for h, w in sides
    }
    return Growth.through(reckoned)


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
    held_out: int = 0,
    evaluate_every: int = 0,
) -> Preflight:
    """The preflight of settings, before a run, and how long the run will take.

    card: GB of another card than the one at hand; 0: this one. held_out: images of a measurement, which is made before
    the first step, after the last, and every `evaluate_every` steps. ConfigError for a diffusers pipeline, of which
    nothing is predicted.
    """
    if not isinstance(policy, PolicySettings):
        raise ConfigError("policy: what a diffusers pipeline needs is not predicted: connect a Pave Policy")
    native = NativePolicy(policy, rollout.picture, seed=config.run.seed, memory=config.memory)
    with native:
        native.sigmas(config.rollout.steps)
        cond = native.encode(prompt)
        native.probe(cond)
        parts = {"settings": policy, "rollout": rollout, "config": config, "reward": reward}
        found = preflight(native, cond, **parts, budget=card * GB if card else None)
        if found.needs.pace is None:
            return found
        mix = None if reward is None else RewardMix.of(reward)
        pace, remarks = found.needs.pace, found.remarks
        try:
            decoder = NativeDecoder(policy.model, policy.vae)
            pace = pace.of_images(**_of_images(native, decoder, mix, config=config, prompt=prompt))
        except PaveError as error:
            remarks += (f"The time of decoding and scoring is not known: {in_words(error)}.",)
    if card:
        remarks += ("The times are those of this device, not of the other card.",)
    duration = Duration(
        pace.step,
        config.run.iterations,
        measurement=0.0 if mix is None else pace.measurement(held_out),
        every=(evaluate_every,),
        unmeasured=True,
        asks=mix is not None and mix.asks,
    )
    return replace(found, remarks=remarks, duration=duration)


@torch.no_grad()
def _of_images(
    policy: NativePolicy, decoder: Decoder, reward: RewardMix | None, *, config: TrainConfig, prompt: str
) -> dict[str, float]:
    """The seconds of decoding an image and of scoring it; NaN without a reward, 0 where it only asks a person."""
    batches = RunBatches.of(config.rollout, config.memory, free_caches)
    n = config.memory.decode_batch
    unasked = None if reward is None else reward.unasked
    seconds = {"decode": math.nan, "reward": math.nan if reward is None else 0.0}
    for seed in (1, 2):  # the first loads networks; others than its images, since a judge may remember those
        latents = torch.randn(n, *policy.latent_shape, generator=seeded(config.run.seed, "images", seed))
        start = time.perf_counter()
        images = batches.decode.map(decoder.decode, latents.to(policy.device))
        decoded = time.perf_counter()
        seconds["decode"] = (decoded - start) / n
        if unasked is not None:
            unasked.score(images, [prompt] * n)
            seconds["reward"] = (time.perf_counter() - decoded) / n
    return seconds
