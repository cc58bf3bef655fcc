"""open_clip's configs of architectures: which can be used without a download, and how each expects its images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ConfigError, quoted
from .preprocess import Preprocess

Config = Mapping[str, Any]
"""open_clip's config of an architecture: {"model_cfg": ..., "preprocess_cfg": ...}."""


@lru_cache(1)
def architectures() -> tuple[str, ...]:
    """The names of open_clip's own configs that need no download; none if it is not installed.

    They are read from its files, since importing it takes seconds and this is called while the host starts.
    """
    configs = {name: json.loads(path.read_text("utf-8")) for name, path in sorted(_config_files().items())}
    return tuple(name for name, config in configs.items() if _refusal(config) is None)


@lru_cache(1)
def _config_files() -> dict[str, Path]:
    """The config files that open_clip brings along, by the names of their architectures."""
    from importlib.util import find_spec

    spec = find_spec("open_clip")
    folders = spec.submodule_search_locations if spec else None
    return {path.stem: path for path in Path(folders[0]).glob("model_configs/*.json")} if folders else {}


def read_config(architecture: str | Path) -> Config:
    """The config of an architecture, by its name in open_clip or from a JSON file in open_clip's format.

    ConfigError for an unknown name, a file that is not such a config, or an architecture that would need a download.
    """
    if isinstance(architecture, Path):
        config = _read_json(architecture)
    elif architecture in _config_files():
        config = {
            "model_cfg": _read_json(_config_files()[architecture]),
            "preprocess_cfg": _published_preprocessing(architecture),
        }
    else:
        raise ConfigError(
            f"architecture: {quoted(architecture)} is not an open_clip architecture: choose one of the list, or put "
            "open_clip_config.json beside the file"
        )
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(part), dict) for part in ("vision_cfg", "text_cfg")):
        raise ConfigError(
            f"architecture: {Path(architecture).name} has no model_cfg with vision_cfg and text_cfg: it is not an "
            "open_clip config"
        )
    if reason := _refusal(model):
        raise ConfigError(f"architecture: {reason}")
    return config


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"architecture: {path.name} is not an open_clip config ({error}): put the config JSON beside the weights"
        ) from error


def _refusal(model_config: Config) -> str | None:
    """Why an architecture cannot be used, and what to do; None where it can."""
    tokenizer = model_config["text_cfg"].get("hf_tokenizer_name") or model_config["text_cfg"].get("hf_model_name")
    if tokenizer:
        remedy = "choose one with CLIP's own tokenizer"
        return f"its tokenizer {quoted(tokenizer)} would have to be downloaded, which this pack never does: {remedy}"
    if "multimodal_cfg" in model_config:
        return "it is a captioner (CoCa), not a plain CLIP: choose a CLIP"
    tower = str(model_config["vision_cfg"].get("timm_model_name", ""))
    if ":" in tower:  # "hf-hub:owner/name": timm asks the internet for its config, even without weights
        return (
            f"its image tower {quoted(tower)} would have to be downloaded, which this pack never does: choose another"
        )
    return None


def _published_preprocessing(architecture: str) -> dict[str, Any]:
    """How images are prepared for an architecture's published weights, in the settings on which all of these agree."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    configs = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    found = {}
    for key in ("mean", "std", "resize_mode", "interpolation"):
        values = {config.get(key) for config in configs}
        if len(values) == 1:
            found[key] = values.pop()
    return {key: value for key, value in found.items() if value is not None}


def preprocess_of(config: Config) -> Preprocess:
    """What an open_clip config says about images; open_clip's defaults where it says nothing."""
    stated = {"mean": None, "std": None, "resize_mode": None, "interpolation": None} | config.get("preprocess_cfg", {})
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    plain = Preprocess((size, size) if isinstance(size, int) else (size[0], size[1]))
    return Preprocess(
        plain.size,
        mean=_colour(stated["mean"] or plain.mean),
        std=_colour(stated["std"] or plain.std),
        resize=stated["resize_mode"] or plain.resize,
        interpolation=stated["interpolation"] or plain.interpolation,
    )


def _colour(values: float | Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (values,) * 3 if isinstance(values, (int, float)) else values
    return (red, green, blue)
