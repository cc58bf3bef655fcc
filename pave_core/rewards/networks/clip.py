"""An open_clip network that compares images and prompts: the base of CLIP score, HPSv2.1, PickScore and aesthetic v2.

cosine(image, prompt) = <f(image) / |f(image)|, g(prompt) / |g(prompt)|>          in [-1, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...packages import needed
from .clip_config import OPEN_CLIP, Config
from .clip_keys import OPENAI_ONLY, is_huggingface, to_open_clip
from .compute import Compute
from .network import empty_weights, load_into
from .preprocess import Preprocess
from .weight_files import read_weights


class Clip:
    """A CLIP from a file. It rests on the CPU, and the features of each prompt are kept.

    field: the input that named the file. what: the architecture and what to choose instead, as "X: choose Y". Both are
    for the ConfigError where the file does not fit.
    """

    def __init__(
        self, weights: Path, config: Config, *, preprocess: Preprocess, compute: Compute, field: str, what: str
    ) -> None:
        state = read_clip(weights, field, config, what)
        self._tokenizer = _tokenizer(config["model_cfg"])
        self._network = build(config)
        self._preprocess, self._compute = preprocess, compute
        state = _shaped_for(self._network, state)
        load_into(self._network, state, dtype=compute.dtype, field=field, path=weights, what=what)
        self._text_features: dict[str, Tensor] = {}

    @property
    def scale(self) -> float:
        """exp(logit_scale), the factor that a cosine had when the network was trained."""
        logit_scale = self._network.logit_scale
        assert isinstance(logit_scale, Tensor)
        return logit_scale.float().exp().item()

    def cosines(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32 on the CPU."""
        image, text = self.features(images, prompts)
        return (image * text).sum(-1)

    @torch.no_grad()
    def features(self, images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """images (N, H, W, 3) in [0, 1] and M prompts -> f / |f| (N, D) and g / |g| (M, D), fp32 on the CPU."""
        with self._compute.placement(self._network) as device:
            text = self._encode_prompts(prompts, device)
            return self._compute.batches.map(lambda part: self._encode_images(part, device), images).cpu(), text

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> f / |f| (N, D), fp32 on the CPU."""
        with self._compute.placement(self._network) as device:
            return self._compute.batches.map(lambda part: self._encode_images(part, device), images).cpu()

    def _encode_images(self, images: Tensor, device: torch.device) -> Tensor:
        pixels = self._preprocess(images).to(device, self._compute.dtype)
        return F.normalize(self._network.encode_image(pixels).float(), dim=-1)  # pyright: ignore[reportCallIssue]

    def _encode_prompts(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._text_features:  # one by one: the last bits of a batch depend on what else is in it
                tokens = self._tokenizer([prompt]).to(device)
                features = self._network.encode_text(tokens)  # pyright: ignore[reportCallIssue]
                self._text_features[prompt] = F.normalize(features.float(), dim=-1)[0].cpu()
        return torch.stack([self._text_features[p] for p in prompts])


def build(config: Config) -> nn.Module:
    """The network of a config, without weights. ConfigError where the installed open_clip cannot build it."""
    with needed("architecture", *OPEN_CLIP):
        from open_clip import CLIP, CustomTextCLIP, __version__

    model = config["model_cfg"]
    kind = CustomTextCLIP if model.get("custom_text") else CLIP
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
        raise ConfigError(
            f"architecture: open_clip {__version__} cannot build it ({error}): update open_clip, or choose another"
        ) from error


def read_clip(weights: Path, field: str, config: Config, what: str) -> dict[str, Tensor]:
    """A CLIP's tensors by open_clip's names, from a file with open_clip's, OpenAI's or Hugging Face's names.

    field, what: as in Clip. ConfigError also where the file is OpenAI's and the config lacks their activation.
    """
    state = read_weights(weights, field)
    if is_huggingface(state):
        return to_open_clip(state)
    if all(key in state for key in OPENAI_ONLY) and not config["model_cfg"].get("quick_gelu"):
        raise ConfigError(f"{field}: {weights.name} is OpenAI's, whose networks use quick_gelu, and so is not {what}")
    return {key: value for key, value in state.items() if key not in OPENAI_ONLY}


def _shaped_for(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the names and shapes of `network`, which differ between open_clip's classes and versions.

    The text tower may be one level deeper, and the logit scale and bias a scalar or a vector.
    """
    with needed("architecture", *OPEN_CLIP):
        from open_clip.model import convert_to_custom_text_state_dict

    if not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    wanted = network.state_dict()
    # open_clip publishes weights without a bias for some configs that have one.
    if "logit_bias" in wanted and "logit_bias" not in state:
        state = state | {"logit_bias": torch.zeros(wanted["logit_bias"].shape)}
    scalars = ("logit_scale", "logit_bias") & wanted.keys() & state.keys()
    return state | {key: state[key].reshape(wanted[key].shape) for key in scalars}


def _tokenizer(model_config: Config) -> Any:
    with needed("architecture", *OPEN_CLIP):
        from open_clip.tokenizer import SimpleTokenizer

    text = model_config["text_cfg"]
    return SimpleTokenizer(context_length=text.get("context_length", 77), **(text.get("tokenizer_kwargs") or {}))
