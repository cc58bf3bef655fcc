"""How the policy generates images: the settings of a KSampler, so that training samples as generation does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import comfy.samplers
import comfy.sd
from comfy.model_patcher import ModelPatcher

from ....pave_core.config.adapter import LoraConfig
from ....pave_core.config.fields import check, setting
from ....pave_core.config.rollout import RolloutConfig
from ....pave_core.errors import ConfigError, quoted
from ....pave_core.flow.schedule import check_sigmas

SCHEDULERS: tuple[str, ...] = tuple(comfy.samplers.SCHEDULER_NAMES)


@dataclass(frozen=True)
class Guidance:
    """How strongly the prompt is followed."""

    cfg: float = setting(
        1.0,
        "Above 1 takes twice the time. As in your KSampler, or it trains another look than you generate: 1 for FLUX.1 "
        "and distilled models, 4.5 for SD3.5, 2.5 for Qwen-Image. Classifier-free guidance; 1 is none.",
        low=0.0,
        high=30.0,
        step=0.1,
    )
    negative_prompt: str = setting(
        "", "What to avoid, as in your KSampler; it matters only when cfg is not 1.", expert=True
    )
    guidance: float = setting(
        -1.0,
        "Changes the look; set it as you generate: the value of your FluxGuidance node, for models that read it. "
        "Below 0: as ComfyUI draws without that node, "
        "FLUX.1-dev with 3.5, HunyuanVideo and HunyuanImage with 6, Chroma with 0.",
        low=-1.0,
        high=30.0,
        step=0.1,
        expert=True,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Picture:
    """The size of an image, or of a video, and its sigmas."""

    width: int = setting(
        512,
        "Time and memory grow with width x height: 512 x 512 takes a quarter of 1024 x 1024 or less, and the LoRA "
        "carries over to larger images. 64 for the bundled model. Image width while training.",
        low=16,
        high=4096,
        step=8,
    )
    height: int = setting(
        512, "As width: time and memory grow with it. Image height while training.", low=16, high=4096, step=8
    )
    scheduler: str = setting(
        "simple",
        "Changes the look; as in your KSampler: the schedule of noise levels (sigmas).",
        options=SCHEDULERS,
        expert=True,
    )
    frames: int = setting(
        1,
        "The frames of a video, for video models. The reward sees the middle one. 1 draws an image, which is the "
        "cheapest way to train a video model too.",
        low=1,
        high=1025,
        remedy="1 draws an image",
        expert=True,
    )
    sigmas: tuple[float, ...] | None = None  # T + 1, instead of the scheduler's

    def __post_init__(self) -> None:
        check(self)
        if self.sigmas is not None and (
            not isinstance(self.sigmas, tuple) or not all(isinstance(sigma, int | float) for sigma in self.sigmas)
        ):
            raise ConfigError(
                f"sigmas: {quoted(self.sigmas)} is not a list of numbers: give a schedule that falls to 0"
            )

    @classmethod
    def of_recipe(cls, sampling: Mapping[str, Any]) -> Picture:
        """The Picture of a recipe's entry "sampling". ConfigError for what is missing there or wrong."""
        missing = [name for name in ("width", "height", "scheduler") if name not in sampling]
        if missing:
            raise ConfigError(f"sampling: it does not say {missing[0]}: choose a file that this pack wrote")
        sigmas = sampling.get("sigmas")
        return cls(
            sampling["width"],
            sampling["height"],
            sampling["scheduler"],
            frames=sampling.get("frames", 1),
            sigmas=tuple(sigmas) if isinstance(sigmas, list) else sigmas,
        )

    def to_recipe(self) -> dict[str, Any]:
        """Its part of a recipe's entry "sampling". Recipes of images name no frames, as before there were videos."""
        values = asdict(self)
        if self.frames == 1:
            del values["frames"]
        return values


@dataclass(frozen=True)
class PolicySettings:
    """PAVE_POLICY: the model to tune, as a user generates with it, and the adapter that it gets."""

    model: ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    lora: LoraConfig | None  # None: no adapter, only sampling
    guidance: Guidance = field(default_factory=Guidance)


@dataclass(frozen=True)
class RolloutSettings:
    """PAVE_ROLLOUT_SETTINGS: how images are sampled while training."""

    config: RolloutConfig = field(default_factory=RolloutConfig)
    picture: Picture = field(default_factory=Picture)

    def __post_init__(self) -> None:
        if self.picture.sigmas is not None:
            check_sigmas(self.picture.sigmas, self.config.steps)
