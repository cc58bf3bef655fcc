"""Tokenizers and text encoders of the sizes that the tiny pipelines have, of the classes that the real ones have."""

from __future__ import annotations

from typing import Any

import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

WIDTH = 32
"""The width of all text encoders."""

_LEARNT_FROM = (
    "a red green blue yellow black white circle square triangle on a dark background, a photo of an astronaut",
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment "
    "based on textual prompts or user prompts. <Prompt Start>",
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:",
)
_SPECIAL = ("<pad>", "</s>", "<s>", "<|im_start|>", "<|im_end|>", "<unk>")
PAD, EOS, BOS = range(3)

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def tokenizer(form: str = "$A", length: int = 512, side: str = "right") -> Any:
    """A fast tokenizer: byte-level BPE, so that any two texts differ.

    form: what is around the text. length: its model_max_length. side: where padding goes.
    """
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=list(_SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_LEARNT_FROM, trainer)
    bpe.post_processor = processors.TemplateProcessing(single=form, special_tokens=[("</s>", EOS), ("<s>", BOS)])
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        **{"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"},
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=length,
        padding_side=side,
    )
    made.chat_template = _TEMPLATE
    return made


_IDS: dict[str, Any] = {"vocab_size": 512, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS}
_DECODER: dict[str, Any] = {
    **_IDS,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}


def clip(projected: bool) -> tuple[Any, Any]:
    """CLIP's tokenizer and text model, with or without the projection of its pooled output."""
    config = transformers.CLIPTextConfig(
        **_IDS,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=WIDTH,
        hidden_act="gelu",
    )
    made = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return tokenizer("<s> $A </s>", 77), made(config)


def t5(multilingual: bool = False, length: int = 512, width: int = WIDTH) -> tuple[Any, Any]:
    """T5's tokenizer and encoder, or UMT5's."""
    sizes: dict[str, Any] = {"d_model": width, "d_ff": 2 * width, "d_kv": 16, "num_heads": 2, "num_layers": 2}
    sizes |= {"vocab_size": 512, "pad_token_id": PAD, "eos_token_id": EOS, "feed_forward_proj": "gated-gelu"}
    if multilingual:
        encoder = transformers.UMT5EncoderModel(transformers.UMT5Config(**sizes))
    else:
        encoder = transformers.T5EncoderModel(transformers.T5Config(**sizes))
    return tokenizer("$A </s>", length), encoder


def gemma2() -> tuple[Any, Any]:
    """Gemma 2's tokenizer and model."""
    config = transformers.Gemma2Config(**_DECODER, num_hidden_layers=2, query_pre_attn_scalar=16)
    return tokenizer("<s> $A"), transformers.Gemma2Model(config)


def qwen3(layers: int = 2, causal: bool = False) -> tuple[Any, Any]:
    """Qwen 3's tokenizer and model, with or without its head."""
    config = transformers.Qwen3Config(**_DECODER, num_hidden_layers=layers, tie_word_embeddings=True)
    return tokenizer(), (transformers.Qwen3ForCausalLM if causal else transformers.Qwen3Model)(config)


_VISION: dict[str, Any] = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}


def qwen_vl() -> tuple[Any, Any]:
    """Qwen 2.5 VL's tokenizer and model."""
    text = {**_DECODER, "num_hidden_layers": 2, "tie_word_embeddings": True}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config={**_VISION, "out_hidden_size": WIDTH, "fullatt_block_indexes": [0]}
    )
    return tokenizer(), transformers.Qwen2_5_VLForConditionalGeneration(config)


def mistral(layers: int) -> tuple[Any, Any]:
    """Mistral 3's tokenizer, which the pipeline takes for its processor, and model."""
    text = transformers.MistralConfig(**_DECODER, num_hidden_layers=layers, tie_word_embeddings=True)
    vision = transformers.PixtralVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = transformers.Mistral3Config(text_config=text, vision_config=vision, image_token_index=3)
    return tokenizer("<s> $A", side="left"), transformers.Mistral3ForConditionalGeneration(config)
