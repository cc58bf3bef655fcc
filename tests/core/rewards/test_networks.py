"""Each network reward against the published pipeline: open_clip's or transformers' own model, image processor and tokenizer.

The checkpoints have the true architecture and file layout and random numbers. Pictures are not square where a pipeline crops, pads or distorts.
"""

import gc
import json
from contextlib import contextmanager

import open_clip
import pytest
import torch
import transformers
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from pave_core.errors import ConfigError
from pave_core.rewards.aesthetic import Aesthetic, AestheticV25
from pave_core.rewards.base import describe
from pave_core.rewards.clip_score import CLIPScore
from pave_core.rewards.hps import HPSv2
from pave_core.rewards.image_reward import ImageReward
from pave_core.rewards.networks.clip_config import architectures, preprocess_of, read_config
from pave_core.rewards.networks.compute import Compute, on
from pave_core.rewards.networks.preprocess import Preprocess
from pave_core.rewards.pickscore import PickScore

TOLERANCE = 1e-4
SIZES = ((224, 224), (64, 64), (225, 301), (97, 150), (301, 240), (512, 131), (223, 448))
TINY = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def transformers_class(*names):
    """The first of these that transformers has: the processors that use Pillow are called otherwise since version 5."""
    return next(getattr(transformers, name) for name in names if hasattr(transformers, name))


def clip_processor(edge=224):
    return transformers_class("CLIPImageProcessorPil", "CLIPImageProcessor")(
        size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}
    )


def siglip_processor():
    return transformers_class("SiglipImageProcessorPil", "SiglipImageProcessor")(size={"height": 384, "width": 384})


@pytest.fixture(scope="session")
def clip_tokenizer(comfyui):
    """Hugging Face's CLIP tokenizer, on the vocabulary that the host carries."""
    return transformers.CLIPTokenizer.from_pretrained(str(comfyui / "comfy" / "sd1_tokenizer"))


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(name, content) -> the path of a file that is deleted after the test."""
    made = []

    def write(name, content):
        path = tmp_path / name
        made.append(path)
        save_file(
            {key: value.contiguous() for key, value in content.items()}, path
        ) if path.suffix == ".safetensors" else torch.save(content, path)
        return path

    yield write
    for path in made:
        path.unlink()
    gc.collect()


def spread(scores):
    """The smallest difference between two of the scores."""
    return (scores[:, None] - scores[None]).abs()[~torch.eye(len(scores), dtype=torch.bool)].min().item()


def assert_same(ours, theirs):
    """Within the tolerance, and on scores that differ by much more than that."""
    assert spread(theirs) > 20 * TOLERANCE, theirs
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def score_each(reward, pictures, prompts):
    """Scores of pictures of different sizes."""
    return torch.cat([reward(image[None], [prompt]) for image, prompt in zip(pictures, prompts, strict=True)])


def layout(make):
    """The state dict of what `make` makes, without memory for it."""
    with init_empty_weights(include_buffers=False):
        return make().state_dict()


def filled(make, state):
    """What `make` makes, with the weights `state` in fp32."""
    with init_empty_weights(include_buffers=False):
        module = make()
    module.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return module.eval()


def open_clip_cosines(model, transform, tokenizer, pictures, prompts):
    with torch.no_grad():
        images = normalize(torch.cat([model.encode_image(transform(picture)[None]) for picture in pictures]), dim=-1)
        return (images * normalize(model.encode_text(tokenizer(list(prompts))), dim=-1)).sum(-1)


# preprocessing


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_images_are_prepared_as_open_clip_does(world, height, width, mode):
    image = world.picture(0, height, width)
    expected = open_clip.image_transform(224, is_train=False, resize_mode=mode)(world.pil([image])[0])
    torch.testing.assert_close(Preprocess((224, 224), resize=mode)(image[None])[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_images_are_prepared_as_transformers_does_for_clip_and_siglip(world, height, width):
    image = world.picture(1, height, width)
    expected = clip_processor()(world.pil([image]), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Preprocess((224, 224), crop_rounding="down")(image[None]), expected, atol=1e-6, rtol=0)
    expected = siglip_processor()(world.pil([image]), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(
        Preprocess((384, 384), mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash")(image[None]), expected, atol=1e-6, rtol=0
    )


def test_a_picture_for_hps_is_padded_with_black_on_both_sides(world):
    image = torch.ones(1, 60, 100, 3)
    shown = Preprocess((224, 224), mean=(0, 0, 0), std=(1, 1, 1), resize="longest")(image)[0]  # 60/100 * 224 = 134.4
    assert [
        shown[0, :, 112].sum().item(),
        shown[0, 45, 112].item(),
        shown[0, 44, 112].item(),
        shown[0, 179, 112].item(),
    ] == [134, 1, 0, 0]


def test_the_preprocessing_of_an_architecture_is_that_of_its_published_weights():
    assert preprocess_of(read_config("ViT-B-32")) == Preprocess((224, 224))
    mobile = Preprocess((256, 256), mean=(0.0,) * 3, std=(1.0,) * 3, resize="shortest", interpolation="bilinear")
    assert preprocess_of(read_config("MobileCLIP-S1")) == mobile
    assert preprocess_of(read_config("ViT-H-14-378-quickgelu")).resize == "squash"


def test_an_architecture_that_would_download_something_is_not_offered():
    assert {"ViT-H-14", "ViT-L-14-quickgelu", "RN50"} <= set(architectures())
    for name, reason in (
        ("roberta-ViT-B-32", "tokenizer 'roberta-base'"),
        ("ViT-B-16-SigLIP", "tokenizer"),
        ("coca_ViT-L-14", "captioner"),
    ):
        assert name not in architectures()
        with pytest.raises(ConfigError, match=f"^architecture: .*{reason}.*: choose"):
            read_config(name)


# small networks: everything but the size


@pytest.fixture
def tiny(world, tmp_path):
    """.reward(compute), .model, .state of a tiny open_clip architecture."""
    config = tmp_path / "open_clip_config.json"
    config.write_text(
        json.dumps(
            {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": 0.25, "resize_mode": "squash"}}
        )
    )
    state = world.RandomWeights(5).fill(layout(lambda: open_clip.CLIP(**TINY)))
    save_file(state, tmp_path / "tiny.safetensors")

    class Tiny:
        model = filled(lambda: open_clip.CLIP(**TINY), state)
        transform = open_clip.image_transform(32, is_train=False, mean=(0.4, 0.5, 0.6), std=0.25, resize_mode="squash")

        @staticmethod
        def reward(**compute):
            return CLIPScore(tmp_path / "tiny.safetensors", config, Compute(**compute))

    return Tiny


def test_a_clip_score_by_a_config_is_open_clips_own(world, tiny):
    images = [world.picture(i, 40 + 11 * i, 90) for i in range(3)]
    expected = open_clip_cosines(
        tiny.model, tiny.transform, open_clip.SimpleTokenizer(), world.pil(images), world.prompts
    )
    assert_same(score_each(tiny.reward(), images, world.prompts), expected)


def test_scores_do_not_depend_on_the_batch_and_are_the_same_again(world, tiny):
    images = torch.stack([world.picture(i, 48, 48) for i in range(7)])
    prompts = [world.prompts[i % 3] for i in range(7)]
    whole = tiny.reward(batch_size=7)(images, prompts)
    torch.testing.assert_close(tiny.reward(batch_size=2)(images, prompts), whole, atol=1e-6, rtol=0)
    reward = tiny.reward(batch_size=3)
    assert torch.equal(reward(images, prompts), reward(images, prompts))


def test_bf16_is_near_fp32_and_fp32_at_the_end(world, tiny):
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    fp32 = tiny.reward()(images, world.prompts)
    for precision in ("bf16", "fp16"):
        scores = tiny.reward(precision=precision)(images, world.prompts)
        assert scores.dtype == torch.float32
        assert 0 < (scores - fp32).abs().max() < 0.05


def test_a_prompt_is_encoded_once_and_alone(world, tiny):
    """So that the bits of its scores do not depend on what was scored before."""
    reward = tiny.reward()
    calls = []
    network = reward._clip._network
    network.encode_text = lambda tokens, encode=network.encode_text: calls.append(len(tokens)) or encode(tokens)
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    reward(images, [world.prompts[0], world.prompts[1], world.prompts[0]])
    reward(images, world.prompts)
    assert calls == [1, 1, 1]
    assert torch.equal(reward(images, world.prompts), tiny.reward()(images, world.prompts))


def test_a_reward_made_under_inference_mode_scores_outside_it(world, tiny):
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    with torch.inference_mode():
        reward = tiny.reward()
        inside = reward(images, world.prompts)
    assert not any(t.is_inference() for t in reward._clip._network.state_dict().values())
    assert torch.equal(reward(images, world.prompts), inside)


def test_the_network_visits_the_device_and_comes_back_with_the_same_memory(tiny):
    network = tiny.reward()._clip._network
    before = {name: value.data_ptr() for name, value in (*network.named_parameters(), *network.named_buffers())}
    assert "attn_mask" in before  # in no state dict

    def fail():
        with on(torch.device("meta"))(network) as device:
            assert {value.device for value in (*network.parameters(), *network.buffers())} == {device}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {name: value.data_ptr() for name, value in (*network.named_parameters(), *network.named_buffers())} == before
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_reward_asks_for_its_place_once_a_call_and_leaves_it_after_an_error(world, tiny):
    log = []

    @contextmanager
    def place(module):
        log.append("in")
        try:
            yield torch.device("cpu")
        finally:
            log.append("out")

    reward = tiny.reward(placement=place, batch_size=1)
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    reward(images, world.prompts)
    assert log == ["in", "out"]
    with pytest.raises(TypeError):
        reward(images, [None, None, None])
    assert log == ["in", "out"] * 2


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"^precision: 'int8' is not known: choose one of fp32, bf16, fp16"):
        Compute(precision="int8")
    with pytest.raises(ConfigError, match=r"^batch_size: 0 is below 1: use 1"):
        Compute(batch_size=0)


def test_a_recipe_names_files_and_settings_and_no_folder(tiny, tmp_path):
    described = describe(tiny.reward(precision="bf16"))
    weights = {"file": "tiny.safetensors", "bytes": (tmp_path / "tiny.safetensors").stat().st_size}
    assert described == {
        "name": "clip",
        "weights": weights,
        "architecture": "open_clip_config.json",
        "precision": "bf16",
    }


@pytest.mark.parametrize("custom_text", [False, True])
def test_the_text_tower_may_lie_one_level_deeper(world, checkpoint, tmp_path, custom_text):
    """Both of open_clip's classes, from a file in the older layout and wrapped as a training run saves it."""
    config = tmp_path / "deep.json"
    config.write_text(json.dumps({"model_cfg": TINY | {"custom_text": custom_text}}))
    state = world.RandomWeights(5).fill(layout(lambda: open_clip.CLIP(**TINY)))
    weights = checkpoint(
        "deep.pt", {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    )
    images = [world.picture(i, 50, 33) for i in range(3)]
    transform = open_clip.image_transform(32, is_train=False)
    expected = open_clip_cosines(
        filled(lambda: open_clip.CLIP(**TINY), state),
        transform,
        open_clip.SimpleTokenizer(),
        world.pil(images),
        world.prompts,
    )
    assert_same(score_each(CLIPScore(weights, config), images, world.prompts), expected)


def huggingface_clip(text, vision, projection, activation):
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text | {"hidden_act": activation, "eos_token_id": 49407, "projection_dim": projection},
            vision_config=vision | {"hidden_act": activation, "projection_dim": projection},
            projection_dim=projection,
        )
    )


def huggingface_cosines(model, processor, tokenizer, pictures, prompts):
    """By the two towers and projections, whose outputs no version of transformers has changed."""
    tokens = tokenizer(list(prompts), padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        pixels = [processor([picture], return_tensors="pt")["pixel_values"] for picture in pictures]
        images = torch.cat([model.visual_projection(model.vision_model(pixel_values=p).pooler_output) for p in pixels])
        texts = model.text_projection(model.text_model(**tokens).pooler_output)
        return (normalize(images, dim=-1) * normalize(texts, dim=-1)).sum(-1)


def test_a_file_with_huggingface_names_is_read_as_transformers_reads_it(world, checkpoint, clip_tokenizer, tmp_path):
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps({"model_cfg": TINY}))

    def make():
        text = {
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 49408,
        }
        vision = {
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        }
        return huggingface_clip(text, vision, 16, "quick_gelu")

    state = world.RandomWeights(6).fill(layout(make))
    old = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    images = [world.picture(i, *size) for i, size in enumerate(((50, 33), (33, 50), (32, 32)))]
    expected = huggingface_cosines(
        filled(make, state), clip_processor(32), clip_tokenizer, world.pil(images), world.prompts
    )
    reward = CLIPScore(checkpoint("hf.safetensors", state | old), config)
    ours = torch.cat([reward(image[None], [prompt]) for image, prompt in zip(images[2:], world.prompts[2:])])
    torch.testing.assert_close(
        ours, expected[2:], atol=TOLERANCE, rtol=0
    )  # the square one: what open_clip crops is half a pixel away
    assert spread(expected) > 20 * TOLERANCE


# the true architectures


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
    expected = open_clip_cosines(
        filled(make, state), transform, open_clip.SimpleTokenizer(), world.pil(images), world.prompts
    )
    assert_same(score_each(CLIPScore(weights, "ViT-B-32-quickgelu"), images, world.prompts), expected)
    with pytest.raises(
        ConfigError, match=r"^checkpoint: ViT-B-32\.pt is OpenAI's, whose networks use quick_gelu.*-quickgelu"
    ):
        CLIPScore(weights, "ViT-B-32")


@pytest.mark.slow
def test_hps(world, checkpoint):
    def make():
        return open_clip.CLIP(**open_clip.get_model_config("ViT-H-14"))

    content = {"epoch": 1, "name": "x", "state_dict": world.RandomWeights(2).fill(layout(make), torch.float16)}
    weights = checkpoint("HPS_v2.1_compressed.pt", content)
    del content  # one copy of these weights at a time: two in fp32 are 8 GB
    images = [world.picture(0, 224, 224), world.picture(1, 225, 301), world.picture(2, 512, 300)]
    ours = score_each(HPSv2(weights), images, world.prompts)
    transform = open_clip.image_transform(224, is_train=False, resize_mode="longest")
    model = filled(make, torch.load(weights, mmap=True)["state_dict"])
    assert_same(
        ours, open_clip_cosines(model, transform, open_clip.SimpleTokenizer(), world.pil(images), world.prompts)
    )


@pytest.mark.slow
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
    ours = score_each(PickScore(weights), images, world.prompts)
    model = filled(make, {key: value for key, value in load_file(weights).items() if key not in old})
    assert_same(
        ours,
        model.logit_scale.exp()
        * huggingface_cosines(model, clip_processor(), clip_tokenizer, world.pil(images), world.prompts),
    )


def linear_head(world, seed, width, name, places):
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


@pytest.mark.slow
@pytest.mark.parametrize("names", ["open_clip", "huggingface image half"])
def test_aesthetic_v2(world, checkpoint, tmp_path, names):
    places = (0, 2, 4, 6, 7)
    head = linear_head(world, 8, 768, "layers", places)
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
    reward = Aesthetic(clip, checkpoint("sac+logos+ava1-l14-linearMSE.pth", head))
    ours = score_each(reward, images, world.prompts[: len(images)])
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)
    assert len(ours) == 1 or spread(expected) > 20 * TOLERANCE
    file = tmp_path / "sac+logos+ava1-l14-linearMSE.pth"
    assert describe(reward)["head"] == {"file": file.name, "bytes": file.stat().st_size}


@pytest.mark.slow
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

    head = linear_head(world, 9, 1152, "scoring_head", places)
    state = world.RandomWeights(10).fill(
        layout(make), torch.float16
    )  # the whole model's names; its text half is not used and small here
    images = [world.picture(0, 384, 384), world.picture(1, 225, 301)]
    weights = checkpoint("siglip.safetensors", state)
    ours = score_each(
        AestheticV25(weights, checkpoint("aesthetic_predictor_v2_5.pth", head)), images, world.prompts[:2]
    )
    model = filled(make, state)
    with torch.no_grad():
        pixels = torch.cat(
            [siglip_processor()([picture], return_tensors="pt")["pixel_values"] for picture in world.pil(images)]
        )
        features = torch.cat([model.vision_model(pixel_values=p[None]).pooler_output for p in pixels])
    assert_same(ours, by_hand(features, head, "scoring_head", places))


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


@pytest.mark.slow
def test_imagereward(world, checkpoint, tmp_path):
    """Against timm's ViT, whose names the file's image tower has, and transformers' BERT with cross-attention, whose names its text tower has."""
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
    head = linear_head(world, 12, 768, "layers", places)
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
    ours = score_each(ImageReward(checkpoint("ImageReward.pt", file), vocabulary), images, prompts)

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
