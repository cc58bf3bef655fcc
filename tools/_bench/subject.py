"""What is measured: models as a user's loaders give them, the quickstart's reward and prompts, and their settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from _cuda.host import facts, pack_module
from _cuda.training import reward_mix

from .settings import Settings, replaced

configs = pack_module("pave_core.config.train")
policy_settings = pack_module("nodes.host.policy.settings")
tiny = pack_module("nodes.host.tiny")
shapes = pack_module("pave_core.rewards.shapes")

SHAPED = {"rollout.steps": 4, "rollout.branch_steps": (0, 2), "rollout.group_size": 6, "memory.decode_batch": 1}
"""For models of real size: few enough latents that a step takes seconds."""


@dataclass(frozen=True)
class Subject:
    """Models and what they are trained with."""

    name: str
    model: Any  # the host's MODEL, CLIP and VAE
    clip: Any
    vae: Any
    reward: Any  # a RewardMix
    config: Any  # the TrainConfig that is measured unless it is said otherwise
    pixels: int
    cfg: float = 1.0

    def policy(self, config: Any, pixels: int | None = None) -> Any:
        """A policy of a TrainConfig, not entered."""
        settings = policy_settings.PolicySettings(
            self.model, self.clip, self.vae, config.lora, policy_settings.Guidance(cfg=self.cfg)
        )
        picture = policy_settings.Picture(pixels or self.pixels, pixels or self.pixels)
        native = pack_module("nodes.host.policy.native")
        return native.NativePolicy(settings, picture, seed=config.run.seed, memory=config.memory)

    def decoder(self) -> Any:
        """A decoder."""
        return pack_module("nodes.host.policy.decoder").NativeDecoder(self.model, self.vae)


def bundled() -> Subject:
    """The bundled model at the quickstart's settings."""
    with torch.inference_mode():  # as the host's loaders
        model, clip, vae = tiny.load_tiny()
    return Subject("tiny", model, clip, vae, reward_mix(), _presets()["quick"], pixels=64)


def shaped(name: str) -> Subject:
    """A model of random weights in the shape of a real one (see _cuda/models.py): "flux" or "sd35"."""
    from _cuda.models import build
    from _cuda.plans import FULL, MINIATURE

    miniature = facts()["device_gb"] is None
    scale, rank = (MINIATURE, 8) if miniature else (FULL, 16)
    models = build(name, "host", miniature=miniature)
    settings = SHAPED | {"lora.rank": rank, "lora.alpha": 2.0 * rank}
    config = replaced(configs.TrainConfig(), settings)
    title = f"{name} in miniature" if miniature else name
    return Subject(title, *models, reward_mix(), config, scale.pixels, cfg=4.5 if name == "sd35" else 1.0)


def subject(name: str, settings: Settings) -> Subject:
    """The bundled model ("tiny") or a shaped one, with other settings."""
    from dataclasses import replace

    found = bundled() if name == "tiny" else shaped(name)
    return replace(found, config=replaced(found.config, settings))


def encoded(policy: Any, prompts: Iterable[str]) -> dict[str, Any]:
    """{prompt: its conditioning}."""
    return {prompt: policy.encode(prompt) for prompt in prompts}


def captions() -> list[str]:
    """The prompts of the bundled model."""
    return shapes.canonical_captions()


def some_captions(count: int) -> list[str]:
    """So many of them, from all over the list."""
    every = captions()
    return every[:: max(1, len(every) // count)][:count]


def compute() -> Any:
    """Where the networks of rewards compute: on the host's device."""
    return pack_module("pave_core.rewards.networks.compute").Compute(pack_module("nodes.host.placement").visiting)


def clip_score() -> Any:
    """The bundled CLIP's score."""
    made = pack_module("pave_core.rewards.clip_score").CLIPScore
    return made(tiny.OPEN_CLIP_MODEL, tiny.OPEN_CLIP_CONFIG, compute())


def preference() -> Any:
    """The bundled preference model."""
    made = pack_module("pave_core.rewards.preference").TinyPreference
    return made(tiny.PREFERENCE, tiny.OPEN_CLIP_MODEL, tiny.OPEN_CLIP_CONFIG, compute())


def mix(*rewards: Any) -> Any:
    """A RewardMix of equal weights."""
    return pack_module("pave_core.scoring.mix").RewardMix(rewards, (1.0,) * len(rewards))


def _presets() -> Any:
    return pack_module("pave_core.config.presets").PRESETS
