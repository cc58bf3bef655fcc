"""Flow classes of the host that the matrix does not build, and whether a class is a flow at all."""

from __future__ import annotations

from typing import Any

NO_IMAGE = "its latents are no image"
OF_AN_IMAGE = "it redraws an image that another model has drawn; no prompt gives that"
NO_CHECKPOINT = "the host makes it only with weights of its checkpoint, and it is no flow"

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
    "LTXAV": "its latents hold sound as well: nested",
    "MiniMaxH3": "its latents hold sound as well: nested",
    "HunyuanImage21Refiner": OF_AN_IMAGE,
    "HunyuanVideo15_SR_Distilled": OF_AN_IMAGE,
    "SeedVR2": OF_AN_IMAGE,
    "PiD": OF_AN_IMAGE,
    "WAN21_FlowRVS": "it flows from a video to a mask, not from noise",
    "RT_DETR_v4": "it detects objects",
    "SAM3": "it cuts out objects",
    "SAM31": "it cuts out objects",
    "DepthAnything3": "it measures depth",
}
"""{class in comfy.supported_models: why it is not built}."""


def sampling_of(config: type) -> Any:
    """The model_sampling of a class of comfy.supported_models, without its network."""
    made: Any = config
    settings = {"in_channels": 4, **made.unet_config, "disable_unet_model_creation": True}
    return made(settings).get_model({}, "").model_sampling
