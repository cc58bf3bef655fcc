"""The bundled tiny model as the host's own objects: MODEL (SD3 class), CLIP (a small CLIP), VAE (TAESD class).

MODEL and VAE are plain files that the stock UNETLoader and VAELoader load too. The text encoder is smaller than any
that the host recognises from its weights, so that its configuration is given here and the CLIP is built from it. The
VAE's decoder is lean: most of the time of a training step on a CPU was spent in it.
"""

from __future__ import annotations

from pathlib import Path

import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
from safetensors.torch import load_file
from torch import Tensor

from .lean import lean

TINY = Path(__file__).resolve().parents[2] / "assets" / "tiny"
DIFFUSION_MODEL = TINY / "diffusion_model.safetensors"
VAE = TINY / "vae.safetensors"
TEXT_ENCODER = TINY / "text_encoder.safetensors"
OPEN_CLIP_MODEL = TINY / "open_clip_model.safetensors"
OPEN_CLIP_CONFIG = TINY / "open_clip_config.json"
SHAPE_CLASSIFIER = TINY / "shape_classifier.safetensors"
PREFERENCE = TINY / "preference.safetensors"

MAX_TOKENS = 16  # a caption has about nine; longer prompts go on in further windows, as with every CLIP of the host
TEXT_CONFIG = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": MAX_TOKENS,
    "eos_token_id": 49407,
}


class _TokenWindow(comfy.sd1_clip.SDTokenizer):
    """The standard CLIP tokenizer with windows of MAX_TOKENS tokens."""

    def __init__(self, **options):
        super().__init__(max_length=MAX_TOKENS, embedding_size=TEXT_CONFIG["hidden_size"], **options)


class TinyTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The host's wrapper of the tokenizer."""

    def __init__(self, **options):
        super().__init__(tokenizer=_TokenWindow, **options)


class _TextModel(comfy.sd1_clip.SDClipModel):
    """The host's CLIP text model at the tiny size: normed last layer (B, 16, 64), projected pooled output (B, 64)."""

    def __init__(self, **options):
        super().__init__(max_length=MAX_TOKENS, textmodel_json_config=dict(TEXT_CONFIG), **options)


class TinyTextEncoder(comfy.sd1_clip.SD1ClipModel):
    """The host's wrapper of the text model."""

    def __init__(self, **options):
        # The type is inferred from a default; the host passes other SDClipModel classes here as well.
        super().__init__(clip_model=_TextModel, **options)  # pyright: ignore[reportArgumentType]


def load_clip() -> comfy.sd.CLIP:
    """The text encoder as a host CLIP, whose memory the host manages as for every other CLIP."""
    weights = comfy.utils.load_torch_file(str(TEXT_ENCODER), safe_load=True)
    target = comfy.supported_models_base.ClipTarget(TinyTokenizer, TinyTextEncoder)
    clip = comfy.sd.CLIP(target, parameters=comfy.utils.calculate_parameters(weights))
    missing, unexpected = clip.load_sd(weights)
    if missing or unexpected:
        raise RuntimeError(
            f"{TEXT_ENCODER.name} does not fit: missing {missing}, unexpected {unexpected}; rebuild it with "
            "tools/make_tiny.py"
        )
    return clip


class TinyVAE(comfy.sd.VAE):
    """The bundled VAE as the stock VAELoader gives it, but for what its decoder multiplies with zero."""

    def __init__(self) -> None:
        super().__init__(sd=load_file(VAE))
        self.throw_exception_if_invalid()
        lean(self.patcher.model.get_submodule("taesd_decoder"))

    def get_sd(self) -> dict[str, Tensor]:
        """What the host saves in a checkpoint: the file's weights, which fit the host's class."""
        return load_file(VAE)


def load_tiny() -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """(MODEL, CLIP, VAE) of the bundled tiny model: 64x64 images, latents (B, 16, 8, 8)."""
    return comfy.sd.load_diffusion_model(str(DIFFUSION_MODEL)), load_clip(), TinyVAE()
