"""How the pipelines of each family call their networks. Nothing else of a pipeline is written here; see recorded.py.

    v(x, sigma) = sign * network(x, time(sigma), conditioning)          sign -1 where time runs from noise to image

Sources: the __call__ of each pipeline in diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ...errors import ConfigError, quoted

Arguments = dict[str, Any]
"""Arguments of a pipeline, or of a network, by name."""
Joint = Literal["negative first", "positive first"]


class Family:
    """The pipelines of one class. S is the shape of one item's latents in the pipeline's loop, packed or not."""

    pipelines: ClassVar[tuple[str, ...]]  # their class names
    latents: ClassVar[str] = "hidden_states"  # the network's arguments
    time: ClassVar[str] = "timestep"
    batched: ClassVar[frozenset[str]]  # those with a row, or an entry of a list, for each item
    joint: ClassVar[Joint | None] = None  # the order of two prompts in one call; None: a call for each
    cfg: ClassVar[str | None] = "guidance_scale"  # the pipeline's argument for classifier-free guidance
    guidance: ClassVar[str | None] = None  # the same for guidance that the network reads
    fixed: ClassVar[Mapping[str, Any]] = {}  # the pipeline's other arguments
    frames: ClassVar[str | None] = None  # the pipeline's argument for the frames of a video

    def __init__(self, network: Any) -> None:
        self.config = network.config

    def time_of(self, sigma: Tensor) -> Tensor:
        """What the network is told at sigma (B,)."""
        return sigma

    def inputs(self, x: Tensor) -> Any:
        """Latents (B, *S) as the network takes them."""
        return x

    def velocity(self, output: Any) -> Tensor:
        """What the network gives, as the velocity (B, *S)."""
        return output

    def nothing(self, inputs: Any) -> Any:
        """What a network would give that changes nothing."""
        return torch.zeros_like(inputs)

    def scale(self, cfg: float) -> float:
        """The pipeline's argument for classifier-free guidance of strength cfg, 1 being none."""
        return cfg

    def guided(self, positive: Tensor, negative: Tensor, cfg: float) -> Tensor:
        """Classifier-free guidance (B, *S), as the pipeline has it."""
        return negative + cfg * (positive - negative)

    def shape(self, inputs: Any, output: Any) -> tuple[int, ...]:
        """S. inputs, output: what the network takes, and what the pipeline gives for output_type "latent"."""
        return tuple(output.shape[1:])

    def given(self, latents: Tensor, width: int, height: int) -> Tensor:
        """Latents (B, *S) as the pipeline's argument `latents` takes them. width, height: of its network's grid."""
        return latents

    def images(self, output: Any) -> Tensor:
        """What the pipeline gives for output_type "pt", as (B, 3, H, W) in [0, 1]; of a video the middle frame."""
        return output if self.frames is None else output[:, output.shape[1] // 2]


class StableDiffusion3(Family):
    pipelines = ("StableDiffusion3Pipeline",)
    batched = frozenset({"encoder_hidden_states", "pooled_projections"})
    joint = "negative first"

    def time_of(self, sigma: Tensor) -> Tensor:
        return 1000 * sigma


class Flux(Family):
    pipelines = ("FluxPipeline",)
    batched = frozenset({"encoder_hidden_states", "pooled_projections", "guidance"})
    cfg, guidance = "true_cfg_scale", "guidance_scale"


class Flux2(Family):
    pipelines = ("Flux2Pipeline",)
    batched = frozenset({"encoder_hidden_states", "guidance", "txt_ids", "img_ids"})
    cfg, guidance = None, "guidance_scale"

    def shape(self, inputs: Any, output: Any) -> tuple[int, ...]:
        return tuple(inputs.shape[1:])  # FLUX.2 klein unpacks its latents also where it does not decode them

    def given(self, latents: Tensor, width: int, height: int) -> Tensor:
        return latents.transpose(1, 2).unflatten(2, (height, width))


class Flux2Klein(Flux2):
    pipelines = ("Flux2KleinPipeline",)
    cfg, guidance = "guidance_scale", None


class _Normalised(Family):
    """Guidance that keeps the length of the positive velocity along the last axis."""

    def guided(self, positive: Tensor, negative: Tensor, cfg: float) -> Tensor:
        v = super().guided(positive, negative, cfg)
        return v * (positive.norm(dim=-1, keepdim=True) / v.norm(dim=-1, keepdim=True))


class QwenImage(_Normalised):
    pipelines = ("QwenImagePipeline",)
    batched = frozenset({"encoder_hidden_states", "encoder_hidden_states_mask", "guidance", "img_shapes"})
    cfg, guidance = "true_cfg_scale", "guidance_scale"


class Lumina2(_Normalised):
    pipelines = ("Lumina2Pipeline",)
    batched = frozenset({"encoder_hidden_states", "encoder_attention_mask"})

    def time_of(self, sigma: Tensor) -> Tensor:
        return 1 - sigma

    def velocity(self, output: Any) -> Tensor:
        return -output


class ZImage(Family):
    """Its network takes and gives lists of latents, each with an axis for frames."""

    pipelines = ("ZImagePipeline",)
    latents, time = "x", "t"
    batched = frozenset({"cap_feats"})
    joint = "positive first"

    def time_of(self, sigma: Tensor) -> Tensor:
        return (1000 - 1000 * sigma) / 1000  # rounded as the pipeline does: the network multiplies it by 1000

    def inputs(self, x: Tensor) -> Any:
        return list(x.unsqueeze(2).unbind())

    def velocity(self, output: Any) -> Tensor:
        return -torch.stack(output).squeeze(2)

    def nothing(self, inputs: Any) -> Any:
        return [torch.zeros_like(each) for each in inputs]

    def scale(self, cfg: float) -> float:
        return cfg - 1

    def guided(self, positive: Tensor, negative: Tensor, cfg: float) -> Tensor:
        return positive + (cfg - 1) * (positive - negative)


class AuraFlow(Family):
    pipelines = ("AuraFlowPipeline",)
    batched = frozenset({"encoder_hidden_states"})
    joint = "negative first"


class Sana(Family):
    """A network with twice the channels also gives a variance, which is not used."""

    pipelines = ("SanaPipeline",)
    batched = frozenset({"encoder_hidden_states", "encoder_attention_mask"})
    joint = "negative first"
    fixed: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False}

    def time_of(self, sigma: Tensor) -> Tensor:
        return 1000 * sigma * self.config.timestep_scale

    def velocity(self, output: Any) -> Tensor:
        return output[:, : self.config.in_channels]

    def nothing(self, inputs: Any) -> Any:
        return inputs.new_zeros(len(inputs), self.config.out_channels, *inputs.shape[2:])


class Wan(Family):
    pipelines = ("WanPipeline",)
    batched = frozenset({"encoder_hidden_states"})
    frames = "num_frames"

    def time_of(self, sigma: Tensor) -> Tensor:
        return 1000 * sigma


class LTX(Family):
    pipelines = ("LTXPipeline",)
    batched = frozenset({"encoder_hidden_states", "encoder_attention_mask"})
    joint = "negative first"
    frames = "num_frames"

    def time_of(self, sigma: Tensor) -> Tensor:
        return 1000 * sigma


FAMILIES: dict[str, type[Family]] = {
    name: family
    for family in (StableDiffusion3, Flux, Flux2, Flux2Klein, QwenImage, ZImage, AuraFlow, Lumina2, Sana, Wan, LTX)
    for name in family.pipelines
}
"""{class of a pipeline: its family}."""


def family_of(pipeline: str) -> type[Family]:
    """The family of a pipeline's class, by its name. ConfigError for another one."""
    if pipeline not in FAMILIES:
        raise ConfigError(
            f"pipeline: {quoted(pipeline)} is none that trains here: choose a folder of one of {', '.join(FAMILIES)}; "
            "models that predict noise (Stable Diffusion 1.5, SDXL) are no flow models"
        )
    return FAMILIES[pipeline]
