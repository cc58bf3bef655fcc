"""KSampler first, then training on the same loaded model, then KSampler again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.sample
import comfy.sd
import torch
from torch import Tensor

from .host import pack_module
from .plans import Plan, Scale
from .training import PROMPT, CheckError, NativeDecoder, NativePolicy, TrainState, config_of, reward_mix
from .training import settings as policy_settings

PIXELS = 64  # those of the bundled model


@torch.inference_mode()
def sample_then_train(scale: Scale, steps: int = 2) -> dict[str, Any]:
    """The metrics of `steps` training steps on the bundled model, which has sampled before.

    CheckError unless it trains, the model afterwards samples the same latents bit for bit, and with the LoRA others.
    """
    model, clip, vae = pack_module("nodes.host.tiny").load_tiny()
    before = sampled(model, clip)
    config = replace(
        config_of(Plan("sample"), scale), run=pack_module("pave_core.config.train").RunConfig(iterations=steps)
    )
    settings = policy_settings.PolicySettings(model, clip, vae, config.lora)
    policy, decoder = NativePolicy(settings, policy_settings.Picture(PIXELS, PIXELS)), NativeDecoder(model, vae)
    conds = {PROMPT: policy.encode(PROMPT)}
    with policy:
        state = TrainState.begin(policy, config)
        train = pack_module("pave_core.training.loop").train
        metrics = list(train(policy, decoder, reward=reward_mix(), conds=conds, config=config, state=state))
        lora = policy.export()
    if any(each.skipped or not each.grad_norm > 0 for each in metrics):
        raise CheckError(f"a step taught nothing: {metrics}")
    if not torch.equal(sampled(model, clip), before):
        raise CheckError("the MODEL samples other latents than before the training")
    tuned, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    change = (sampled(tuned, clip) - before).abs().max().item()
    if not change > 0:
        raise CheckError("the LoRA changes nothing")
    return {"grad_norm": metrics[-1].grad_norm, "loss": metrics[-1].loss, "largest_change": change}


def sampled(model: Any, clip: comfy.sd.CLIP) -> Tensor:
    """The latents (1, 16, 8, 8) of a KSampler (euler, simple, 4 steps)."""
    noise = torch.randn(1, 16, PIXELS // 8, PIXELS // 8, generator=torch.Generator().manual_seed(1))
    cond = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    return comfy.sample.sample(
        model, noise, 4, 1.0, "euler", "simple", cond, cond, torch.zeros_like(noise), disable_pbar=True
    )
