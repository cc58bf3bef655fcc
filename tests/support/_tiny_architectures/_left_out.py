"""Flow classes of the host that the matrix does not build, and whether a class is a flow at all."""

from __future__ import annotations

from typing import Any

NO_IMAGE = "latents that are no image: sound or 3D shapes"
OF_AN_IMAGE = "for redrawing an image that another model has drawn"
NO_CHECKPOINT = "no flow, and made only with the weights of a checkpoint"

LEFT_OUT: dict[str, str] = {
    "Stable_Zero123": NO_CHECKPOINT,
    "StableAudio": NO_CHECKPOINT,
    "StableAudio3": NO_IMAGE,
    "ACEStep": NO_IMAGE,
    "ACEStep15": NO_IMAGE,
    "MiniMaxMusic3": NO_IMAGE,
    "Hunyuan3Dv2": NO_IMAGE,
    "Hunyuan3Dv2mini": NO_IMAGE,
    "Hunyuan3Dv2_1": NO_IMAGE,
    "TripoSplat": NO_IMAGE,
    "Trellis2": NO_IMAGE,
    "LTXAV": "sound and video in one latent",
    "MiniMaxH3": "sound and video in one latent",
    "HunyuanImage21Refiner": OF_AN_IMAGE,
    "HunyuanVideo15_SR_Distilled": OF_AN_IMAGE,
    "SeedVR2": OF_AN_IMAGE,
    "PiD": OF_AN_IMAGE,
    "WAN21_FlowRVS": "from a video to a mask, not from noise",
    "RT_DETR_v4": "for finding objects",
    "SAM3": "for finding objects",
    "SAM31": "for finding objects",
    "DepthAnything3": "for measuring depth",
}
"""{class in comfy.supported_models: why it is not built}."""


def sampling_of(config: type) -> Any:
    """The model_sampling of a class of comfy.supported_models, without its network."""
    made: Any = config
    settings = {"in_channels": 4, **made.unet_config, "disable_unet_model_creation": True}
    return made(settings).get_model({}, "").model_sampling
