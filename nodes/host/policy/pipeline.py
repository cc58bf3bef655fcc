"""A folder of a diffusers pipeline as the policy of a run in the host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ....pave_core.config.adapter import LoraConfig
from ....pave_core.config.memory import MemoryConfig
from ....pave_core.errors import ConfigError
from ....pave_core.policies.diffusers.export import TABLES
from ....pave_core.policies.diffusers.folder import load
from ....pave_core.policies.diffusers.policy import PipelinePolicy, Sampling
from ....pave_core.policies.diffusers.tiny import tiny_pipeline
from .. import interrupt
from .settings import Guidance, Picture


@dataclass(frozen=True, eq=False)
class PipelineSettings:
    """PAVE_POLICY of Pave Diffusers Policy: a pipeline to tune, as it draws, and the adapter that it gets."""

    folder: Path | None  # None: a tiny pipeline with random weights
    lora: LoraConfig | None  # None: no adapter, only sampling
    guidance: Guidance = field(default_factory=Guidance)
    dtype: torch.dtype = torch.bfloat16
    model: ModelPatcher | None = None  # the host's MODEL of the same weights, which gets the LoRA; None: there is none

    @functools.cached_property
    def pipeline(self) -> Any:
        """The pipeline, loaded when it is first asked for. ConfigError as of folder.load."""
        with torch.inference_mode(False):  # in which nodes run, and whose tensors stop autograd
            return tiny_pipeline() if self.folder is None else load(self.folder, self.dtype)

    @torch.inference_mode(False)
    def policy(
        self,
        picture: Picture,
        *,
        seed: int = 0,
        memory: MemoryConfig | None = None,
        check: Callable[[], None] = interrupt.check,
    ) -> PipelinePolicy:
        """The pipeline as a policy. ConfigError where it cannot draw the picture."""
        sampling, schedule = Sampling.of_recipe(picture.to_recipe() | asdict(self.guidance))
        if self.model is not None and type(self.pipeline.transformer).__name__ not in TABLES:
            raise ConfigError(
                f"model: a LoRA of {type(self.pipeline).__name__} is in diffusers' own format, as ComfyUI has no model "
                "of this kind: disconnect it"
            )
        # The host's own models make room.
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        return PipelinePolicy(
            self.pipeline,
            self.lora,
            sampling,
            device=comfy.model_management.get_torch_device(),
            seed=seed,
            memory=memory,
            schedule=schedule,
            check=check,
        )
