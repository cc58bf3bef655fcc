"""The policy of a PAVE_POLICY, whatever it is made from."""

from __future__ import annotations

from collections.abc import Callable

from ....pave_core.config.memory import MemoryConfig
from ....pave_core.policies.diffusers.policy import PipelineDecoder, PipelinePolicy
from ....pave_core.types import Decoder
from .. import interrupt
from .decoder import NativeDecoder
from .native import NativePolicy
from .pipeline import PipelineSettings
from .settings import Picture, PolicySettings

AnySettings = PolicySettings | PipelineSettings


def made(
    settings: AnySettings,
    picture: Picture,
    *,
    seed: int = 0,
    memory: MemoryConfig | None = None,
    check: Callable[[], None] = interrupt.check,
) -> tuple[NativePolicy | PipelinePolicy, Decoder]:
    """The policy of `settings`, not entered, and its decoder. ConfigError where it cannot draw the picture.

    check: called before each call of a network; what it raises ends the work.
    """
    if isinstance(settings, PipelineSettings):
        policy = settings.policy(picture, seed=seed, memory=memory, check=check)
        return policy, PipelineDecoder(policy)
    policy = NativePolicy(settings, picture, seed=seed, memory=memory, check=check)
    return policy, NativeDecoder(settings.model, settings.vae, check)
