"""CLIP score (arXiv 2104.08718): the cosine of an image's and its prompt's features, from any open_clip checkpoint.

r = <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          in [-1, 1]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class CLIPScore:
    """An open_clip model as a reward.

    weights: a .safetensors file, or a .pt / .pth / .bin file that torch.load(weights_only=True) accepts. architecture: an open_clip
    config name such as "ViT-L-14-quickgelu", or the path of a config JSON in open_clip's format. The model rests on the CPU and visits
    `device` while it scores. Images are resized and normalised as the checkpoint's config says; scores do not depend on batch_size but for rounding.
    """

    name = "clip"

    def __init__(self, weights: Path, architecture: str | Path, device: torch.device, precision: str = "fp32", batch_size: int = 16) -> None:
        if precision not in DTYPES:
            raise ConfigError(f"precision: {precision!r} is not known: choose one of {', '.join(DTYPES)}")
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is below 1: use 1 for the least memory")
        self.weights, self.architecture, self.device = weights, architecture, device
        self.precision, self.batch_size = precision, batch_size
        config = _read_config(architecture)
        self._tokenizer = _tokenizer(config["model_cfg"])
        self._model = _build(config["model_cfg"], weights, DTYPES[precision])
        preprocess = config.get("preprocess_cfg", {})
        self._size: tuple[int, int] = _pair(config["model_cfg"]["vision_cfg"]["image_size"])
        self._resize_mode = preprocess.get("resize_mode", "shortest")
        self._mean, self._std = _normalisation(preprocess)
        self._text_features: dict[str, Tensor] = {}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return {"weights": self.weights.name, "architecture": Path(self.architecture).name, "precision": self.precision}

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) cosines."""
        self._model.to(self.device)
        try:
            text = self._encode_prompts(prompts)
            features = torch.cat([self._encode_images(part) for part in images.split(self.batch_size)])
            return (features * text).sum(-1).cpu()
        finally:
            self._model.to("cpu")

    def _encode_images(self, images: Tensor) -> Tensor:
        pixels = self.preprocess(images.to(self.device)).to(DTYPES[self.precision])
        return F.normalize(self._model.encode_image(pixels).float(), dim=-1)

    def _encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        new = [p for p in dict.fromkeys(prompts) if p not in self._text_features]
        for start in range(0, len(new), self.batch_size):
            part = new[start : start + self.batch_size]
            features = F.normalize(self._model.encode_text(self._tokenizer(part).to(self.device)).float(), dim=-1)
            self._text_features |= dict(zip(part, features.cpu(), strict=True))
        return torch.stack([self._text_features[p] for p in prompts]).to(self.device)

    def preprocess(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) in [0, 1] -> (N, 3, h, w) normalised: bicubic, antialiased; "shortest" crops the centre, "squash" distorts."""
        pixels = images[..., :3].movedim(-1, 1).float()
        height, width = self._size
        if self._resize_mode == "shortest":
            scale = max(height / pixels.shape[2], width / pixels.shape[3])
            size = [max(height, round(pixels.shape[2] * scale)), max(width, round(pixels.shape[3] * scale))]
        else:
            size = [height, width]
        if list(pixels.shape[2:]) != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
        pixels = pixels[:, :, top : top + height, left : left + width]
        return (pixels - self._mean.to(pixels)) / self._std.to(pixels)


def architectures() -> list[str]:
    """The names of open_clip's own configs, read from its files without importing it; empty if it is not installed."""
    from importlib.util import find_spec

    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        return []
    return sorted(path.stem for path in Path(spec.submodule_search_locations[0]).glob("model_configs/*.json"))


def _read_config(architecture: str | Path) -> dict[str, Any]:
    import open_clip

    if isinstance(architecture, Path):
        try:
            config = json.loads(architecture.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"architecture: {architecture} is not a readable open_clip config ({error}): put the config JSON beside the weights"
            ) from error
        if "vision_cfg" not in config.get("model_cfg", {}):
            raise ConfigError(f"architecture: {architecture} has no model_cfg.vision_cfg: it is not an open_clip config")
        return config
    model_config = open_clip.get_model_config(architecture)
    if model_config is None:
        raise ConfigError(
            f"architecture: {architecture!r} is not an open_clip architecture: choose one of the list, or put open_clip_config.json beside the file"
        )
    return {"model_cfg": model_config}


def _build(model_config: dict[str, Any], weights: Path, dtype: torch.dtype) -> Any:
    import open_clip

    if not weights.is_file():
        raise ConfigError(f"checkpoint: {weights} does not exist: put an open_clip checkpoint into models/reward_models")
    kind = open_clip.CustomTextCLIP if "custom_text" in model_config else open_clip.CLIP
    arguments = {key: value for key, value in model_config.items() if key != "custom_text"}
    model = kind(**arguments, cast_dtype=None if dtype == torch.float32 else dtype)
    try:
        open_clip.load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except Exception as error:  # a damaged file, one that holds code and one of another architecture each raise their own
        reason = " ".join(str(error).split())[:240]
        raise ConfigError(
            f"checkpoint: {weights.name} can not be loaded as this CLIP architecture ({reason}): choose the architecture of the file"
        ) from error
    return model.to(dtype).eval().requires_grad_(False)


def _normalisation(preprocess: dict[str, Any]) -> tuple[Tensor, Tensor]:
    import open_clip

    mean = preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)
    std = preprocess.get("std", open_clip.OPENAI_DATASET_STD)
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def _tokenizer(model_config: dict[str, Any]) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    text = model_config["text_cfg"]
    if "hf_tokenizer_name" in text:
        tokenizer = text["hf_tokenizer_name"]
        raise ConfigError(
            f"architecture: its tokenizer {tokenizer!r} would have to be downloaded, which this pack never does: choose one with CLIP's own tokenizer"
        )
    return SimpleTokenizer(context_length=text.get("context_length", 77))


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
