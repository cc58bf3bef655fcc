"""Each network reward against the published pipeline: open_clip's or transformers' own model and tools.

The checkpoints have the true architecture and file layout, and random numbers.
"""

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import load_file

from _networks import (
    TOLERANCE,
    assert_made_again,
    assert_same,
    clip_processor,
    filled,
    huggingface_clip,
    huggingface_cosines,
    layout,
    open_clip_cosines,
    score_each,
    siglip_processor,
    spread,
)
from pave_core.errors import ConfigError
from pave_core.rewards.aesthetic import Aesthetic, AestheticV25
from pave_core.rewards.clip_score import CLIPScore
from pave_core.rewards.hps import HPSv2
from pave_core.rewards.image_reward import ImageReward
from pave_core.rewards.pickscore import PickScore
from pave_core.scoring.score import describe


def linear_head(world, seed, *, width, name, places):
    """A head's tensors, its bias near 5 as in the real ones."""
    widths = (width, 1024, 128, 64, 16, 1)
    head = torch.nn.ModuleDict({str(place): torch.nn.Linear(n, m) for place, n, m in zip(places, widths, widths[1:])})
    state = world.RandomWeights(seed, gain=2.0).fill(head.state_dict())
    return {f"{name}.{key}": value for key, value in state.items()}


def by_hand(features, head, name, places):
    """x W' + b, layer by layer."""
    x = features / features.norm(dim=-1, keepdim=True)
    for place in places:
        x = x @ head[f"{name}.{place}.weight"].T + head[f"{name}.{place}.bias"]
    return x[:, 0]


def bert_vocabulary():
    """30522 tokens with BERT's marks where they are, and words of the test's prompts in whole and in pieces."""
    tokens = [f"[unused{i}]" for i in range(30522)]
    for mark, place in (("[PAD]", 0), ("[UNK]", 100), ("[CLS]", 101), ("[SEP]", 102), ("[MASK]", 103)):
        tokens[place] = mark
    words = [
        "a",
        "red",
        "fox",
        "in",
        "the",
        "snow",
        "an",
        "old",
        "sail",
        "##ing",
        "ship",
        ",",
        "oil",
        "on",
        "can",
        "##vas",
        "!",
    ]
    tokens[2000 : 2000 + len(words)] = words
    return tokens


def test_clip_score_of_openais_vit_b_32(world, checkpoint):
    """OpenAI's layout: fp16, and three numbers among the weights."""

    def make():
        return open_clip.CLIP(**open_clip.get_model_config("ViT-B-32-quickgelu"))

    state = world.RandomWeights(1).fill(layout(make), torch.float16)
    numbers = {
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    weights = checkpoint("ViT-B-32.pt", state | numbers)
    images = [world.picture(0, 224, 224), world.picture(1, 225, 301), world.picture(2, 512, 300)]
    transform = open_clip.image_transform(224, is_train=False)
    expected = open_clip_cosines(filled(make, state), transform, pictures=world.pil(images), prompts=world.prompts)
    assert_same(score_each(CLIPScore(weights, "ViT-B-32-quickgelu"), images, world.prompts), expected)
    with pytest.raises(
        ConfigError, match=r"^checkpoint: ViT-B-32\.pt is OpenAI's, whose networks use quick_gelu.*-quickgelu"
    ):
        CLIPScore(weights, "ViT-B-32")


@pytest.mark.long
def test_hps(world, checkpoint):
    def make():
        return open_clip.CLIP(**open_clip.get_model_config("ViT-H-14"))

    content = {"epoch": 1, "name": "x", "state_dict": world.RandomWeights(2).fill(layout(make), torch.float16)}
    weights = checkpoint("HPS_v2.1_compressed.pt", content)
    del content  # one copy of these weights at a time: two in fp32 are 8 GB
    images = [world.picture(0, 224, 224), world.picture(1, 225, 301), world.picture(2, 512, 300)]
    reward = HPSv2(weights)
    ours = score_each(reward, images, world.prompts)
    assert_made_again(reward, weights)
    transform = open_clip.image_transform(224, is_train=False, resize_mode="longest")
    model = filled(make, torch.load(weights, mmap=True)["state_dict"])
    assert_same(ours, open_clip_cosines(model, transform, pictures=world.pil(images), prompts=world.prompts))


@pytest.mark.long
def test_pickscore(world, checkpoint, clip_tokenizer):
    def make():
        text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        vision = {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
        }
        return huggingface_clip(text, vision, 1024, "gelu")

    old = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(257)[None],
    }
    weights = checkpoint("PickScore_v1.safetensors", world.RandomWeights(3).fill(layout(make), torch.float16) | old)
    images = [world.picture(0, 224, 224), world.picture(1, 225, 301), world.picture(2, 512, 300)]
    reward = PickScore(weights)
    ours = score_each(reward, images, world.prompts)
    assert_made_again(reward, weights)
    model = filled(make, {key: value for key, value in load_file(weights).items() if key not in old})
    assert_same(
        ours,
        model.logit_scale.exp()
        * huggingface_cosines(
            model, clip_processor(), tokenizer=clip_tokenizer, pictures=world.pil(images), prompts=world.prompts
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("names", ["open_clip", "huggingface image half"])
def test_aesthetic_v2(world, checkpoint, tmp_path, names):
    places = (0, 2, 4, 6, 7)
    head = linear_head(world, 8, width=768, name="layers", places=places)
    images = [world.picture(0, 224, 224), world.picture(1, 225, 301), world.picture(2, 512, 300)]
    if names == "open_clip":

        def make():
            return open_clip.CLIP(**open_clip.get_model_config("ViT-L-14-quickgelu"))

        state = world.RandomWeights(4).fill(layout(make), torch.float16)
        model, transform = filled(make, state), open_clip.image_transform(224, is_train=False)
        with torch.no_grad():
            features = torch.cat([model.encode_image(transform(picture)[None]) for picture in world.pil(images)])
    else:

        def make():
            vision = {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "patch_size": 14,
            }
            return transformers.CLIPVisionModelWithProjection(
                transformers.CLIPVisionConfig(**vision, projection_dim=768)
            )

        images = images[:1]  # what transformers crops is half a pixel away
        state = world.RandomWeights(4).fill(layout(make), torch.float16)
        with torch.no_grad():
            features = filled(make, state)(
                clip_processor()(world.pil(images), return_tensors="pt")["pixel_values"]
            ).image_embeds
    expected = by_hand(features, head, "layers", places)
    clip = checkpoint("clip.safetensors", state)
    head = checkpoint("sac+logos+ava1-l14-linearMSE.pth", head)
    reward = Aesthetic(clip, head)
    assert_made_again(reward, clip, head)
    ours = score_each(reward, images, world.prompts[: len(images)])
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)
    assert len(ours) == 1 or spread(expected) > 20 * TOLERANCE
    file = tmp_path / "sac+logos+ava1-l14-linearMSE.pth"
    assert describe(reward)["head"] == {"file": file.name, "bytes": file.stat().st_size}


@pytest.mark.long
def test_aesthetic_v2_5(world, checkpoint):
    places = (0, 2, 4, 6, 8)
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}

    def make():
        text = transformers.SiglipTextConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=100
        )
        vision = transformers.SiglipVisionConfig(**sizes, image_size=384, patch_size=14)
        return transformers.SiglipModel(
            transformers.SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
        )

    head = linear_head(world, 9, width=1152, name="scoring_head", places=places)
    state = world.RandomWeights(10).fill(
        layout(make), torch.float16
    )  # the whole model's names; its text half is not used and small here
    images = [world.picture(0, 384, 384), world.picture(1, 225, 301)]
    weights = checkpoint("siglip.safetensors", state)
    file = checkpoint("aesthetic_predictor_v2_5.pth", head)
    reward = AestheticV25(weights, file)
    ours = score_each(reward, images, world.prompts[:2])
    assert_made_again(reward, weights, file)
    model = filled(make, state)
    with torch.no_grad():
        pixels = torch.cat(
            [siglip_processor()([picture], return_tensors="pt")["pixel_values"] for picture in world.pil(images)]
        )
        features = torch.cat([model.vision_model(pixel_values=p[None]).pooler_output for p in pixels])
    assert_same(ours, by_hand(features, head, "scoring_head", places))


@pytest.mark.slow
def test_imagereward(world, checkpoint, tmp_path):
    """Against timm's ViT and transformers' BERT with cross-attention, whose tensors have the names of the file's."""
    import timm

    def make_image():
        return timm.create_model("vit_large_patch16_224", num_classes=0, global_pool="")

    def make_text():
        config = transformers.BertConfig(
            vocab_size=30524, add_cross_attention=True, is_decoder=True, encoder_hidden_size=1024
        )
        model = transformers.BertModel(config, add_pooling_layer=False)
        for layer in model.encoder.layer:  # BERT's own cross-attention expects the text tower's width
            for part in ("key", "value"):
                setattr(layer.crossattention.self, part, torch.nn.Linear(1024, 768))
        return model

    places = (0, 2, 4, 6, 7)
    weights = world.RandomWeights(11)
    image, text = weights.fill(layout(make_image)), weights.fill(layout(make_text))
    types = text.pop("embeddings.token_type_embeddings.weight")  # BLIP has none
    head = linear_head(world, 12, width=768, name="layers", places=places)
    file = {f"blip.visual_encoder.{key}": value for key, value in image.items()}
    file |= {f"blip.text_encoder.{key}": value for key, value in text.items()}
    file |= {
        "blip.text_encoder.embeddings.position_ids": torch.arange(512)[None],
        "blip.vision_proj.weight": torch.ones(256, 1024),
    }
    file |= {f"mlp.{key}": value for key, value in head.items()}
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(bert_vocabulary()), "utf-8")
    images = [world.picture(0, 224, 224), world.picture(1, 225, 301), world.picture(2, 512, 300)]
    prompts = [*world.prompts[:2], " ".join(["a red fox in the snow"] * 8)]  # the last is longer than 35 tokens
    weights = checkpoint("ImageReward.pt", file)
    reward = ImageReward(weights, vocabulary)
    ours = score_each(reward, images, prompts)
    assert_made_again(reward, weights, vocabulary)

    vit, bert = (
        filled(make_image, image),
        filled(make_text, text | {"embeddings.token_type_embeddings.weight": torch.zeros_like(types)}),
    )
    tokenizer = transformers.BertTokenizer(str(vocabulary))
    transform = open_clip.image_transform(224, is_train=False)
    tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    with torch.no_grad():
        seen = torch.cat([vit(transform(picture)[None]) for picture in world.pil(images)])
        bert.config.is_decoder = (
            False  # it was made one for its cross-attention; each token sees the whole prompt all the same
        )
        x = bert(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], encoder_hidden_states=seen
        ).last_hidden_state[:, 0]
        for place in places:
            x = x @ head[f"layers.{place}.weight"].T + head[f"layers.{place}.bias"]
    assert_same(ours, (x[:, 0] - 0.16717362830052426) / 1.0333394966054072)
