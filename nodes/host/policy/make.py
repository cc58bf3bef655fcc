"""The policy of a PAVE_POLICY, whatever it is made from."""

from __future__ import annotations

from ....pave_core.config.memory import MemoryConfig
from ....pave_core.policies.diffusers.policy import PipelineDecoder, PipelinePolicy
from ....pave_core.types import Decoder
from .decoder import NativeDecoder
from .native import NativePolicy
from .pipeline import PipelineSettings
from .settings import Picture, PolicySettings

AnySettings = PolicySettings | PipelineSettings


def made(
    settings: AnySettings, picture: Picture, *, seed: int = 0, memory: MemoryConfig | None = None
) -> tuple[NativePolicy | PipelinePolicy, Decoder]:
    """The policy of `settings`, not entered, and its decoder. ConfigError where it cannot draw the picture."""
    if isinstance(settings, PipelineSettings):
        policy = settings.policy(picture, seed=seed, memory=memory)
        return policy, PipelineDecoder(policy)
    return NativePolicy(settings, picture, seed=seed, memory=memory), NativeDecoder(settings.model, settings.vae)
