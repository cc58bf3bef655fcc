"""What differs between the versions of ComfyUI that the tests run on, each with its reason. Tests ask here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Required:
    """Settings that networks of `image_models` must be given if the host's dataclass `parameters` has them."""

    image_models: tuple[str, ...]
    parameters: str
    settings: dict[str, Any]


REQUIRED_SETTINGS = (
    # Since 0.4 the axes of FLUX's text positions are a setting without a default; Chroma inherits FLUX's forward.
    Required(("flux", "flux2"), "comfy.ldm.flux.model.FluxParams", {"txt_ids_dims": []}),
    Required(
        ("chroma", "chroma_radiance"), "comfy.ldm.chroma.model.ChromaParams", {"txt_ids_dims": [], "vec_in_dim": None}
    ),
    Required(
        ("chroma_radiance",),
        "comfy.ldm.chroma_radiance.model.ChromaRadianceParams",
        {"use_x0": False, "use_sequential_txt_ids": False},
    ),
    # Newer hosts tell two kinds of meanflow apart.
    Required(("hunyuan_video",), "comfy.ldm.hunyuan_video.model.HunyuanVideoParams", {"meanflow_sum": False}),
)


def required_settings(image_model: str | None) -> dict[str, Any]:
    """The settings that this host's networks of `image_model` ask for besides those that all hosts have."""
    found: dict[str, Any] = {}
    for each in REQUIRED_SETTINGS:
        if image_model in each.image_models:
            module, name = each.parameters.rsplit(".", 1)
            fields = getattr(import_module(module), name).__dataclass_fields__
            found |= {key: value for key, value in each.settings.items() if key in fields}
    return found
