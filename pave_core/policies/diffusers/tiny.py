"""A tiny pipeline with random weights, made without a file: for trying things out where no model is at hand.

It draws patterns of 64 pixels that no prompt describes; what a reward likes of them can still be learnt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...packages import needed
from .folder import REQUIREMENTS

WIDTH = 32
MAX_TOKENS = 64
TINY_PIPELINE = "tiny, random weights"
"""What drop-downs and recipes call it."""
_SPECIAL = ("<pad>", "</s>", "<unk>")


def tiny_pipeline(seed: int = 0) -> Any:
    """An AuraFlowPipeline, in evaluation mode on the CPU. ConfigError where diffusers or transformers is missing."""
    with needed("pipeline", *REQUIREMENTS):
        import diffusers
        import transformers
    encoder = transformers.UMT5EncoderModel(
        transformers.UMT5Config(
            vocab_size=259, d_model=WIDTH, d_ff=2 * WIDTH, d_kv=16, num_heads=2, num_layers=2, pad_token_id=0
        )
    )
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        num_attention_heads=2,
        attention_head_dim=16,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=WIDTH,
        pos_embed_max_size=64,
    )
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8,) * 4,
    }
    vae = diffusers.AutoencoderKL(**blocks, norm_num_groups=4, latent_channels=4, scaling_factor=1.0)
    generator = torch.Generator().manual_seed(seed)
    for part in (encoder, network, vae):
        _fill(part, generator)
    pipeline = diffusers.AuraFlowPipeline(
        tokenizer=_tokenizer(transformers),
        text_encoder=encoder.eval(),
        vae=vae.eval(),
        transformer=network.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _tokenizer(transformers: Any) -> Any:
    """A token for each byte."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: i for i, word in enumerate((*_SPECIAL, *alphabet))}
    bytes_ = Tokenizer(models.BPE(vocab=words, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    ends: Any = [("</s>", 1)]
    bytes_.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=ends)  # pyright: ignore[reportAttributeAccessIssue]
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bytes_, model_max_length=MAX_TOKENS, **named)


@torch.no_grad()
def _fill(network: nn.Module, generator: torch.Generator) -> None:
    """Random weights of about the size of trained ones; none is 0, so that all that enters matters."""
    for name, p in network.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        p.copy_(noise / p[0].numel() ** 0.5 if p.ndim > 1 else 0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
