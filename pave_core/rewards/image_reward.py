"""ImageReward v1.0 (arXiv 2304.05977): human preference, by a BLIP whose text tower also sees the image.

r = (mlp(h) - 0.16717) / 1.03334          h (768,): the text tower's first token; r about -2 to 2

The authors' package pins libraries in versions that break hosts. The same network is put together here from
transformers' BLIP parts, whose tensors have the file's names except for the image tower's. The prompt is cut or padded
to 35 tokens of BERT's vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..files import require_plain
from ..packages import needed
from .networks.compute import ON_CPU, Compute
from .networks.network import empty_weights, load_into, mlp
from .networks.preprocess import Preprocess
from .networks.weight_files import file_record, read_weights, within, without_positions

FILE = "ImageReward.pt"
SOURCE = "THUDM/ImageReward"
VOCABULARY = "vocab.txt"
VOCABULARY_SOURCE = "google-bert/bert-base-uncased"

MEAN, STD = 0.16717362830052426, 1.0333394966054072
TOKENS = 35
BERT_SIZE = 30522
LARGEST_VOCABULARY = 16 * 2**20
"""Bytes of the vocabulary's file; tokenizer.json has half a million."""

_IMAGE_TOWER: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
_TEXT_TOWER: dict[str, Any] = {
    "vocab_size": 30524,
    "encoder_hidden_size": 1024,
    "num_attention_heads": 12,
    "is_decoder": True,
}
_SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}

_IMAGE_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")
_IN_BLOCK = {
    "norm1": "layer_norm1",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


class ImageReward:
    """ImageReward as a reward.

    weights: ImageReward.pt. vocabulary: vocab.txt or tokenizer.json of bert-base-uncased. ConfigError where one of them
    does not fit.
    """

    name = "imagereward"

    def __init__(self, weights: Path, vocabulary: Path, compute: Compute = ON_CPU) -> None:
        self._tokenizer = read_vocabulary(vocabulary)
        self._compute = compute
        state = read_weights(weights, "checkpoint")
        what = f"ImageReward v1.0: choose {FILE} of {SOURCE}"
        self._network = _Blip()
        parts = (
            (self._network.image, image_names(within(state, "blip.visual_encoder.")), compute.dtype),
            (self._network.text, without_positions(within(state, "blip.text_encoder.")), compute.dtype),
            (self._network.head, within(state, "mlp.layers."), torch.float32),
        )
        for module, part, dtype in parts:
            load_into(module, part, dtype=dtype, field="checkpoint", path=weights, what=what)
        self._preprocess = Preprocess((224, 224))
        self._described = {
            "weights": file_record(weights),
            "vocabulary": file_record(vocabulary),
            "precision": compute.precision,
        }

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32."""
        tokens, mask = self._tokenize(prompts)
        with self._compute.placement(self._network) as device:

            def scored(part: Tensor, ids: Tensor, seen: Tensor) -> Tensor:
                pixels = self._preprocess(part).to(device, self._compute.dtype)
                return self._network(pixels, ids.to(device), seen.to(device))

            return self._compute.batches.map(scored, images, tokens, mask).cpu()

    def _tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The prompts' token ids, and 1 for those that are not padding, both (N, 35)."""
        encoded = self._tokenizer.encode_batch(list(prompts))
        return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])


class _Blip(nn.Module):
    """The network of ImageReward. A new one has no weights."""

    def __init__(self) -> None:
        with needed("checkpoint", "transformers"):
            from transformers import BlipTextConfig, BlipVisionConfig
            from transformers.models.blip.modeling_blip import BlipVisionModel
            from transformers.models.blip.modeling_blip_text import BlipTextModel

        super().__init__()
        with empty_weights():
            self.image = BlipVisionModel(BlipVisionConfig(**_IMAGE_TOWER))
            self.text = BlipTextModel(BlipTextConfig(**_TEXT_TOWER), add_pooling_layer=False)
            self.head = mlp(768, (0, 2, 4, 6, 7))

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """pixels (n, 3, 224, 224), tokens and mask (n, 35) -> (n,)."""
        seen = self.image(pixels).last_hidden_state  # (n, 197, 1024)
        everywhere = torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device)
        read = self.text(
            input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen, encoder_attention_mask=everywhere
        ).last_hidden_state
        return (self.head(read[:, 0].float())[:, 0] - MEAN) / STD


def image_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's tensors by transformers' names; unknown ones keep their names."""

    def renamed(key: str) -> str:
        if (block := _BLOCK.fullmatch(key)) and block[2] in _IN_BLOCK:
            return f"encoder.layers.{block[1]}.{_IN_BLOCK[block[2]]}.{block[3]}"
        name = next((name for name in _IMAGE_NAMES if key == name or key.startswith(f"{name}.")), key)
        return _IMAGE_NAMES.get(name, name) + key.removeprefix(name)

    return {renamed(key): value for key, value in state.items()}


def read_vocabulary(path: Path) -> Any:
    """BERT's tokenizer from vocab.txt or tokenizer.json, which cuts and pads texts to 35 tokens.

    ConfigError unless its size and its special tokens are those of bert-base-uncased.
    """
    with needed("vocabulary", "tokenizers"):
        from tokenizers import Tokenizer
        from tokenizers.implementations import BertWordPieceTokenizer

    remedy = f"choose {VOCABULARY} of {VOCABULARY_SOURCE}"
    require_plain(path, "vocabulary", LARGEST_VOCABULARY, remedy)
    try:
        if path.suffix == ".json":
            tokenizer = Tokenizer.from_file(str(path))
            numbers = tokenizer.get_vocab()
        else:
            tokenizer = None
            numbers = {token: number for number, token in enumerate(path.read_text("utf-8").splitlines())}
    except Exception as error:  # the library raises Exception itself
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"vocabulary: {path.name} cannot be read ({reason}): {remedy}") from error
    wrong = [mark for mark, number in _SPECIAL.items() if numbers.get(mark) != number]
    if wrong or len(numbers) != BERT_SIZE:
        shown = f"{len(numbers)} tokens, not {BERT_SIZE}; {', '.join(wrong) or 'no mark'} out of place"
        raise ConfigError(f"vocabulary: {path.name} is not that of bert-base-uncased ({shown}): {remedy}")
    tokenizer = tokenizer or BertWordPieceTokenizer(numbers, lowercase=True)
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    return tokenizer
