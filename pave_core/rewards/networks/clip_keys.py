"""CLIP's tensors by open_clip's names, from files that use other names.

Files of Hugging Face's CLIPModel hold the same tensors as open_clip's CLIP with three differences: their names; query,
key and value apart; and the projections transposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .weight_files import without_positions

OPENAI_ONLY = ("input_resolution", "context_length", "vocab_size")  # numbers among the weights of OpenAI's own files

_TOWERS = {"text_model.": "", "vision_model.": "visual."}
_NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "final_layer_norm": "ln_final",
    "pre_layrnorm": "ln_pre",  # their spelling
    "post_layernorm": "ln_post",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_IN_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}


def is_huggingface(state: Mapping[str, Tensor]) -> bool:
    """Whether `state` has the names of Hugging Face's CLIPModel."""
    return any(key.startswith(tuple(_TOWERS)) for key in state)


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a CLIPModel, or of its image half alone, by open_clip's names; unknown ones keep their names."""
    found: dict[str, Tensor] = {}
    for key, value in without_positions(state).items():
        if key in _PROJECTIONS:
            found[_PROJECTIONS[key]] = value.T
        elif key.endswith(("self_attn.q_proj.weight", "self_attn.q_proj.bias")):
            parts = [state[name] for part in "qkv" if (name := key.replace("q_proj", f"{part}_proj")) in state]
            found[_renamed(key).replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
        elif not re.search(r"self_attn\.[kv]_proj\.", key):
            found[_renamed(key)] = value
    return found


def _renamed(key: str) -> str:
    for theirs, ours in _TOWERS.items():
        if key.startswith(theirs):
            return ours + _in_tower(key.removeprefix(theirs))
    return key


def _in_tower(key: str) -> str:
    if layer := _LAYER.fullmatch(key):
        return f"transformer.resblocks.{layer[1]}.{_begin(layer[2], _IN_LAYER)}"
    return _begin(key, _NAMES)


def _begin(key: str, names: Mapping[str, str]) -> str:
    """`key` with the beginning that is in `names` renamed; unchanged where none is."""
    theirs = next((name for name in names if key == name or key.startswith(f"{name}.")), None)
    return key if theirs is None else names[theirs] + key.removeprefix(theirs)
