"""A text encoder of the host's own kind (comfy.sd.CLIP) that gives random conditioning of the right shapes."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn

from ._parts import Text


class Tokenizer:
    """The text itself is its only token."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        pass

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        return {"tiny": [[(text, 1.0)]]}


class TextEncoder(nn.Module):
    """Random tensors that depend on the text alone, times a parameter: something to load, to patch and to evict."""

    def __init__(self, text: Text, dtype: Any = None, device: Any = None, model_options: Any = None) -> None:
        super().__init__()
        self.dtypes = {torch.float32}
        self._text = text
        self.gain = nn.Parameter(torch.ones(1, device=device), requires_grad=False)

    def encode_token_weights(self, tokens: dict[str, Any]) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """(tokens (1, length, width), pooled (1, pooled) or None, the rest by name)."""
        text = self._text
        generator = torch.Generator().manual_seed(zlib.crc32(tokens["tiny"][0][0][0].encode()))
        cond = torch.randn(1, text.length, text.width, generator=generator)
        pooled = None if text.pooled is None else torch.randn(1, text.pooled, generator=generator)
        extra = text.extra(generator) if text.extra else {}  # noqa: S610 - not Django's
        return cond * self.gain.cpu(), pooled, extra

    def set_clip_options(self, options: dict[str, Any]) -> None:
        pass

    def reset_clip_options(self) -> None:
        pass

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        return self.load_state_dict(sd, strict=False)


def make_clip(text: Text) -> Any:
    """A comfy.sd.CLIP."""
    from comfy.sd import CLIP
    from comfy.supported_models_base import ClipTarget

    target = ClipTarget(Tokenizer, TextEncoder)
    target.params["text"] = text
    return CLIP(target)
