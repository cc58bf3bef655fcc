"""An open_clip network that compares images and prompts; CLIP score, HPSv2.1, PickScore and the aesthetic v2 stand on it.

cosine(image, prompt) = <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          in [-1, 1]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from .clip_keys import OPENAI_ONLY, is_huggingface, to_open_clip
from .compute import Compute
from .network import empty_weights, load_into
from .preprocess import Preprocess
from .weight_files import read_weights

Config = Mapping[str, Any]
"""open_clip's config of an architecture: {"model_cfg": ..., "preprocess_cfg": ...}."""


class Clip:
    """A CLIP from a file, resting on the CPU. The features of prompts are kept, by prompt."""

    def __init__(self, weights: Path, config: Config, preprocess: Preprocess, compute: Compute, field: str, what: str) -> None:
        state = read_clip(weights, field, config, what)
        self._tokenizer = _tokenizer(config["model_cfg"])
        self._network = build(config)
        self._preprocess, self._compute = preprocess, compute
        load_into(self._network, _shaped_for(self._network, state), compute.dtype, field, weights, what)
        self._text_features: dict[str, Tensor] = {}

    @property
    def scale(self) -> float:
        """exp(logit_scale), the factor of a cosine in training."""
        return self._network.logit_scale.float().exp().item()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]

    @torch.no_grad()
    def cosines(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32 on the CPU."""
        with self._compute.placement(self._network) as device:
            text = self._encode_prompts(prompts, device)
            features = [self._encode_images(part, device) for part in images.split(self._compute.batch_size)]
            return (torch.cat(features) * text).sum(-1).cpu()

    def _encode_images(self, images: Tensor, device: torch.device) -> Tensor:
        pixels = self._preprocess(images).to(device, self._compute.dtype)
        return F.normalize(self._network.encode_image(pixels).float(), dim=-1)  # pyright: ignore[reportCallIssue]

    def _encode_prompts(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._text_features:  # one by one: the last bits of a batch depend on what else is in it
                features = self._network.encode_text(self._tokenizer([prompt]).to(device))  # pyright: ignore[reportCallIssue]
                self._text_features[prompt] = F.normalize(features.float(), dim=-1)[0].cpu()
        return torch.stack([self._text_features[p] for p in prompts]).to(device)


@lru_cache(1)
def architectures() -> tuple[str, ...]:
    """The names of open_clip's own configs that need no download, read from its files without importing it; none if it is not installed."""
    return tuple(name for name, path in sorted(_config_files().items()) if _refusal(json.loads(path.read_text("utf-8"))) is None)


@lru_cache(1)
def _config_files() -> dict[str, Path]:
    from importlib.util import find_spec

    spec = find_spec("open_clip")
    folders = spec.submodule_search_locations if spec else None
    return {path.stem: path for path in Path(folders[0]).glob("model_configs/*.json")} if folders else {}


def read_config(architecture: str | Path) -> Config:
    """The config of a name, or of a JSON file in open_clip's format, as far as it can be used without a download."""
    if isinstance(architecture, Path):
        config = _read_json(architecture)
    elif architecture in _config_files():
        config = {"model_cfg": _read_json(_config_files()[architecture]), "preprocess_cfg": _published_preprocessing(architecture)}
    else:
        raise ConfigError(
            f"architecture: {architecture!r} is not an open_clip architecture: choose one of the list, or put open_clip_config.json beside the file"
        )
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(part), dict) for part in ("vision_cfg", "text_cfg")):
        raise ConfigError(f"architecture: {Path(architecture).name} has no model_cfg with vision_cfg and text_cfg: it is not an open_clip config")
    if reason := _refusal(model):
        raise ConfigError(f"architecture: {reason}")
    return config


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"architecture: {path.name} is no open_clip config ({error}): put the config JSON beside the weights") from error


def _refusal(model_config: Config) -> str | None:
    """Why an architecture can not be used."""
    tokenizer = model_config["text_cfg"].get("hf_tokenizer_name") or model_config["text_cfg"].get("hf_model_name")
    if tokenizer:
        return f"its tokenizer {tokenizer!r} would have to be downloaded, which this pack never does: choose one with CLIP's own tokenizer"
    if "multimodal_cfg" in model_config:
        return "it is a captioner (CoCa), not a plain CLIP: choose a CLIP"
    return None


def _published_preprocessing(architecture: str) -> dict[str, Any]:
    """How images are prepared for an architecture's published weights, as far as these agree; open_clip's defaults for the rest."""
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
    """What an open_clip config says about images."""
    stated = {"mean": None, "std": None, "resize_mode": None, "interpolation": None} | config.get("preprocess_cfg", {})
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    plain = Preprocess((size, size) if isinstance(size, int) else (size[0], size[1]))
    return Preprocess(
        plain.size,
        _colour(stated["mean"] or plain.mean),
        _colour(stated["std"] or plain.std),
        stated["resize_mode"] or plain.resize,
        stated["interpolation"] or plain.interpolation,
    )


def _colour(values: float | Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (values,) * 3 if isinstance(values, (int, float)) else values
    return (red, green, blue)


def build(config: Config) -> nn.Module:
    """The network of a config, without weights."""
    import open_clip

    model = config["model_cfg"]
    kind = open_clip.CustomTextCLIP if model.get("custom_text") else open_clip.CLIP
    arguments = {key: value for key, value in model.items() if key != "custom_text"}
    arguments["vision_cfg"] = model["vision_cfg"] | {"timm_model_pretrained": False}
    try:
        try:
            with empty_weights():
                return kind(**arguments)
        except RuntimeError:  # some timm towers run once while they are made, which takes weights
            with torch.inference_mode(False):
                return kind(**arguments)
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        version = open_clip.__version__
        raise ConfigError(f"architecture: open_clip {version} can not build it ({error}): update open_clip, or choose another") from error


def read_clip(weights: Path, field: str, config: Config, what: str) -> dict[str, Tensor]:
    """A CLIP's tensors by open_clip's names, whoever wrote the file."""
    state = read_weights(weights, field)
    if is_huggingface(state):
        return to_open_clip(state)
    if all(key in state for key in OPENAI_ONLY) and not config["model_cfg"].get("quick_gelu"):
        raise ConfigError(f"{field}: {weights.name} is OpenAI's, whose networks use quick_gelu, and so is not {what}")
    return {key: value for key, value in state.items() if key not in OPENAI_ONLY}


def _shaped_for(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the text tower where `network` has it, and the logit scale as the scalar or vector that it is there."""
    from open_clip.model import convert_to_custom_text_state_dict

    if not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    wanted = network.state_dict()
    if "logit_bias" in wanted and "logit_bias" not in state:  # open_clip trains some models without it into configs that have one
        state = state | {"logit_bias": torch.zeros(wanted["logit_bias"].shape)}
    scalars = {key: value.reshape(wanted[key].shape) for key, value in state.items() if key in ("logit_scale", "logit_bias") & wanted.keys()}
    return state | scalars


def _tokenizer(model_config: Config) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    text = model_config["text_cfg"]
    return SimpleTokenizer(context_length=text.get("context_length", 77), **(text.get("tokenizer_kwargs") or {}))
