"""A LoRA of a diffusers network, in the keys of the host's own network of the same model.

    host layer  = the rows of diffusers' layers, one below the other            W = [W_1; ...; W_n]
    its adapter = one of the ranks' sum                                         A = [A_1; ...; A_n]
                                                                                B = diag(s_1 B_1, ..., s_n B_n) / s
    with s_i = alpha_i / rank_i, and alpha = s (rank_1 + ... + rank_n), s = s_1.

The update of the host's layer is that of diffusers' layers, number for number. Where the host has no such network, the
LoRA is in diffusers' own format.

Sources of the tables: convert_*_to_diffusers() in diffusers 0.42, loaders/single_file_utils.py, and
model_lora_keys_unet() of the host's comfy/lora.py, which takes "diffusion_model." and a layer's own name for any model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
"""A LoRA as LoraAdapter.export(prefix="") gives it: `<layer>.lora_A.weight`, `.lora_B.weight` and `.alpha`."""

SWAP = "~"
Table = Mapping[tuple[str, str], Mapping[str, str]]
"""{(the host's blocks, diffusers' blocks): {the host's layer: diffusers' layers, by their rows}}; * is a number.

~ before a layer: it gives scale and shift, and the host's shift and scale. A layer of that name which gives more than
these two has them in the same order.
"""


def _same(*layers: str) -> dict[str, str]:
    return {name: name for name in layers}


_MLP = {"mlp.0": "linear_1", "mlp.2": "linear_2"}
_QKV, _ADDED_QKV = "attn.to_q attn.to_k attn.to_v", "attn.add_q_proj attn.add_k_proj attn.add_v_proj"

_SD3: Table = {
    ("t_embedder.", "time_text_embed.timestep_embedder."): _MLP,
    ("y_embedder.", "time_text_embed.text_embedder."): _MLP,
    ("joint_blocks.*.", "transformer_blocks.*."): {
        "x_block.adaLN_modulation.1": "norm1.linear",
        "x_block.attn.qkv": _QKV,
        "x_block.attn.proj": "attn.to_out.0",
        "x_block.attn2.qkv": "attn2.to_q attn2.to_k attn2.to_v",
        "x_block.attn2.proj": "attn2.to_out.0",
        "x_block.mlp.fc1": "ff.net.0.proj",
        "x_block.mlp.fc2": "ff.net.2",
        "context_block.adaLN_modulation.1": "~norm1_context.linear",
        "context_block.attn.qkv": _ADDED_QKV,
        "context_block.attn.proj": "attn.to_add_out",
        "context_block.mlp.fc1": "ff_context.net.0.proj",
        "context_block.mlp.fc2": "ff_context.net.2",
    },
    ("", ""): {
        **_same("context_embedder"),
        "final_layer.adaLN_modulation.1": "~norm_out.linear",
        "final_layer.linear": "proj_out",
    },
}

_FLUX_MLP = {"in_layer": "linear_1", "out_layer": "linear_2"}
_FLUX_ENDS = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer.adaLN_modulation.1": "~norm_out.linear",
    "final_layer.linear": "proj_out",
}
_FLUX_ATTENTION = {
    "img_attn.qkv": _QKV,
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.qkv": _ADDED_QKV,
    "txt_attn.proj": "attn.to_add_out",
}
_FLUX: Table = {
    ("time_in.", "time_text_embed.timestep_embedder."): _FLUX_MLP,
    ("guidance_in.", "time_text_embed.guidance_embedder."): _FLUX_MLP,
    ("vector_in.", "time_text_embed.text_embedder."): _FLUX_MLP,
    ("double_blocks.*.", "transformer_blocks.*."): {
        **_FLUX_ATTENTION,
        "img_mod.lin": "norm1.linear",
        "img_mlp.0": "ff.net.0.proj",
        "img_mlp.2": "ff.net.2",
        "txt_mod.lin": "norm1_context.linear",
        "txt_mlp.0": "ff_context.net.0.proj",
        "txt_mlp.2": "ff_context.net.2",
    },
    ("single_blocks.*.", "single_transformer_blocks.*."): {
        "modulation.lin": "norm.linear",
        "linear1": f"{_QKV} proj_mlp",
        "linear2": "proj_out",
    },
    ("", ""): _FLUX_ENDS,
}
_FLUX2: Table = {
    ("time_in.", "time_guidance_embed.timestep_embedder."): _FLUX_MLP,
    ("guidance_in.", "time_guidance_embed.guidance_embedder."): _FLUX_MLP,
    ("double_blocks.*.", "transformer_blocks.*."): {
        **_FLUX_ATTENTION,
        "img_mlp.0": "ff.linear_in",
        "img_mlp.2": "ff.linear_out",
        "txt_mlp.0": "ff_context.linear_in",
        "txt_mlp.2": "ff_context.linear_out",
    },
    ("single_blocks.*.", "single_transformer_blocks.*."): {
        "linear1": "attn.to_qkv_mlp_proj",
        "linear2": "attn.to_out",
    },
    ("", ""): {
        **_FLUX_ENDS,
        "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
        "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
        "single_stream_modulation.lin": "single_stream_modulation.linear",
    },
}

_QWEN_IMAGE: Table = {
    ("transformer_blocks.*.", "transformer_blocks.*."): _same(
        *_QKV.split(),
        *_ADDED_QKV.split(),
        *("attn.to_out.0", "attn.to_add_out"),
        *("img_mod.1", "img_mlp.net.0.proj", "img_mlp.net.2"),
        *("txt_mod.1", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
    ),
    ("", ""): _same(
        "time_text_embed.timestep_embedder.linear_1",
        "time_text_embed.timestep_embedder.linear_2",
        *("img_in", "txt_in", "norm_out.linear", "proj_out"),
    ),
}

_AURA_MLP = {"c_fc1": "linear_1", "c_fc2": "linear_2", "c_proj": "out_projection"}
_AURA_FLOW: Table = {
    ("t_embedder.", "time_step_proj."): _MLP,
    ("double_layers.*.mlpX.", "joint_transformer_blocks.*.ff."): _AURA_MLP,
    ("double_layers.*.mlpC.", "joint_transformer_blocks.*.ff_context."): _AURA_MLP,
    ("double_layers.*.", "joint_transformer_blocks.*."): {
        "modX.1": "norm1.linear",
        "attn.w2q": "attn.to_q",
        "attn.w2k": "attn.to_k",
        "attn.w2v": "attn.to_v",
        "attn.w2o": "attn.to_out.0",
        "modC.1": "norm1_context.linear",
        "attn.w1q": "attn.add_q_proj",
        "attn.w1k": "attn.add_k_proj",
        "attn.w1v": "attn.add_v_proj",
        "attn.w1o": "attn.to_add_out",
    },
    ("single_layers.*.mlp.", "single_transformer_blocks.*.ff."): _AURA_MLP,
    ("single_layers.*.", "single_transformer_blocks.*."): {
        "modCX.1": "norm1.linear",
        "attn.w1q": "attn.to_q",
        "attn.w1k": "attn.to_k",
        "attn.w1v": "attn.to_v",
        "attn.w1o": "attn.to_out.0",
    },
    ("", ""): {
        "init_x_linear": "pos_embed.proj",
        "cond_seq_linear": "context_embedder",
        "modF.1": "~norm_out.linear",
        "final_linear": "proj_out",
    },
}

_BLOCKS = ("noise_refiner", "context_refiner", "layers")
_LUMINA2_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attention.qkv": _QKV,
    "attention.out": "attn.to_out.0",
    "feed_forward.w1": "feed_forward.linear_1",
    "feed_forward.w2": "feed_forward.linear_2",
    "feed_forward.w3": "feed_forward.linear_3",
}
_Z_IMAGE_BLOCK = {
    **_same("adaLN_modulation.0", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
    "attention.qkv": "attention.to_q attention.to_k attention.to_v",
    "attention.out": "attention.to_out.0",
}
_LUMINA2: Table = {
    **{(f"{name}.*.", f"{name}.*."): _LUMINA2_BLOCK for name in _BLOCKS},
    ("t_embedder.", "time_caption_embed.timestep_embedder."): _MLP,
    ("", ""): {
        **_same("x_embedder"),
        "cap_embedder.1": "time_caption_embed.caption_embedder.1",
        "final_layer.adaLN_modulation.1": "norm_out.linear_1",
        "final_layer.linear": "norm_out.linear_2",
    },
}
_Z_IMAGE: Table = {
    **{(f"{name}.*.", f"{name}.*."): _Z_IMAGE_BLOCK for name in _BLOCKS},
    ("", ""): {
        **_same("t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.1"),
        "x_embedder": "all_x_embedder.2-1",
        "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
        "final_layer.linear": "all_final_layer.2-1.linear",
    },
}

_WAN_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
_WAN: Table = {
    ("blocks.*.self_attn.", "blocks.*.attn1."): _WAN_ATTENTION,
    ("blocks.*.cross_attn.", "blocks.*.attn2."): _WAN_ATTENTION,
    ("blocks.*.", "blocks.*."): {"ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2"},
    ("", "condition_embedder."): {
        "time_embedding.0": "time_embedder.linear_1",
        "time_embedding.2": "time_embedder.linear_2",
        "time_projection.1": "time_proj",
        "text_embedding.0": "text_embedder.linear_1",
        "text_embedding.2": "text_embedder.linear_2",
    },
    ("", ""): {"head.head": "proj_out"},
}

_LTX: Table = {
    ("transformer_blocks.*.", "transformer_blocks.*."): _same(
        *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
        *("ff.net.0.proj", "ff.net.2"),
    ),
    ("adaln_single.", "time_embed."): _same(
        "emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2", "linear"
    ),
    ("", ""): {
        **_same("caption_projection.linear_1", "caption_projection.linear_2", "proj_out"),
        "patchify_proj": "proj_in",
    },
}

TABLES: dict[str, Table] = {
    "SD3Transformer2DModel": _SD3,
    "FluxTransformer2DModel": _FLUX,
    "Flux2Transformer2DModel": _FLUX2,
    "QwenImageTransformer2DModel": _QWEN_IMAGE,
    "AuraFlowTransformer2DModel": _AURA_FLOW,
    "Lumina2Transformer2DModel": _LUMINA2,
    "ZImageTransformer2DModel": _Z_IMAGE,
    "WanTransformer3DModel": _WAN,
    "LTXVideoTransformer3DModel": _LTX,
}
"""{class of a diffusers network: its table}, of those that the host has too (in 0.3.75 and 0.33 all but Sana)."""


class Exported(NamedTuple):
    """A LoRA as a file holds it, and who takes it: the host's stock loader, or load_lora_weights() of diffusers."""

    weights: dict[str, Tensor]
    format: Literal["host", "diffusers"]


def export(network: nn.Module, weights: Weights) -> Exported:
    """A LoRA of a diffusers network for the host; in diffusers' format if the host has none of its layers or not all.

    network: with the adapter in or out; all that is asked of it is its class and its layers' widths. Where the host has
    several of diffusers' layers as one, B has zeros: it is as many times as large.
    """
    table = _by_layer(TABLES.get(type(network).__name__, {}))
    places = [_place(table, key.removesuffix(".alpha")) for key in weights if key.endswith(".alpha")]
    if None in places:
        return Exported(to_diffusers(weights), "diffusers")
    found: dict[str, Tensor] = {}
    for place in dict.fromkeys(place for place in places if place is not None):
        found |= _joined(network, place, weights)
    return Exported(found, "host")


def to_diffusers(weights: Weights) -> dict[str, Tensor]:
    """A LoRA as load_lora_weights() takes it, which knows no alpha: the scale is in B."""
    found: dict[str, Tensor] = {}
    for layer in [key.removesuffix(".alpha") for key in weights if key.endswith(".alpha")]:
        A, B, alpha = _parts(weights, layer)
        found[f"transformer.{layer}.lora_A.weight"] = A.clone()
        found[f"transformer.{layer}.lora_B.weight"] = B * (alpha / len(A))
    return found


class _Place(NamedTuple):
    """A host layer, the layers of diffusers that are its rows, and whether its halves may change places."""

    host: str
    rows: tuple[str, ...]
    swap: bool


def _by_layer(table: Table) -> dict[str, _Place]:
    """{diffusers' layer: where it is in the host}, with * for the block's number."""
    found: dict[str, _Place] = {}
    for (host_blocks, blocks), layers in table.items():
        for host, names in layers.items():
            rows = tuple(blocks + name for name in names.removeprefix(SWAP).split())
            found |= dict.fromkeys(rows, _Place(host_blocks + host, rows, names.startswith(SWAP)))
    return found


def _place(table: Mapping[str, _Place], layer: str) -> _Place | None:
    block = re.search(r"(?<=\.)\d+(?=\.)", layer)
    number = block[0] if block else ""
    place = table.get(layer.replace(f".{number}.", ".*.", 1) if block else layer)
    if place is None:
        return None
    host, *rows = (name.replace("*", number) for name in (place.host, *place.rows))
    return _Place(host, tuple(rows), place.swap)


def _parts(weights: Weights, layer: str) -> tuple[Tensor, Tensor, Tensor]:
    """A (rank, in), B (out, rank) and alpha () of a layer."""
    return weights[f"{layer}.lora_A.weight"], weights[f"{layer}.lora_B.weight"], weights[f"{layer}.alpha"]


def _joined(network: nn.Module, place: _Place, weights: Weights) -> dict[str, Tensor]:
    """The adapter of one host layer. A layer of diffusers without an adapter gives rows of 0."""
    trained = {layer: _parts(weights, layer) for layer in place.rows if f"{layer}.alpha" in weights}
    A_1, _, alpha_1 = next(iter(trained.values()))
    blocks: list[Tensor] = []
    for layer in place.rows:
        if layer in trained:
            A, B, alpha = trained[layer]
            blocks.append(B * (alpha * len(A_1) / (alpha_1 * len(A))))
        else:
            untrained: Any = network.get_submodule(layer)
            blocks.append(A_1.new_zeros(untrained.out_features, 0))
    A, B = torch.cat([A for A, _, _ in trained.values()]), torch.block_diag(*blocks)
    if place.swap and len(B) == 2 * A.shape[1]:
        B = torch.cat([*B.chunk(2)][::-1])
    key = f"diffusion_model.{place.host}"
    return {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B, f"{key}.alpha": alpha_1 * (len(A) / len(A_1))}
