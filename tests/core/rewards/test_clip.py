"""Small CLIPs against open_clip's and transformers' own scores: everything but the size."""

import json

import open_clip
import pytest
import torch

from _networks import (
    TINY,
    TOLERANCE,
    assert_same,
    clip_processor,
    filled,
    huggingface_clip,
    huggingface_cosines,
    layout,
    open_clip_cosines,
    score_each,
    spread,
)
from pave_core.rewards.clip_score import CLIPScore
from pave_core.scoring.score import describe


def test_a_clip_score_by_a_config_is_open_clips_own(world, tiny_clip):
    images = [world.picture(i, 40 + 11 * i, 90) for i in range(3)]
    expected = open_clip_cosines(
        tiny_clip.model, tiny_clip.transform, pictures=world.pil(images), prompts=world.prompts
    )
    assert_same(score_each(tiny_clip.reward(), images, world.prompts), expected)


def test_a_prompt_is_encoded_once_and_alone(world, tiny_clip):
    """Otherwise the last bits of its scores would depend on what was scored before."""
    reward = tiny_clip.reward()
    calls = []
    network = reward._clip._network
    network.encode_text = lambda tokens, encode=network.encode_text: calls.append(len(tokens)) or encode(tokens)
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    reward(images, [world.prompts[0], world.prompts[1], world.prompts[0]])
    reward(images, world.prompts)
    assert calls == [1, 1, 1]
    assert torch.equal(reward(images, world.prompts), tiny_clip.reward()(images, world.prompts))


def test_a_recipe_names_files_and_settings_and_no_folder(tiny_clip, tmp_path):
    described = describe(tiny_clip.reward(precision="bf16"))
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
        pictures=world.pil(images),
        prompts=world.prompts,
    )
    assert_same(score_each(CLIPScore(weights, config), images, world.prompts), expected)


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
        filled(make, state),
        clip_processor(32),
        tokenizer=clip_tokenizer,
        pictures=world.pil(images),
        prompts=world.prompts,
    )
    reward = CLIPScore(checkpoint("hf.safetensors", state | old), config)
    ours = torch.cat([reward(image[None], [prompt]) for image, prompt in zip(images[2:], world.prompts[2:])])
    # The square one alone: what open_clip crops of the others is half a pixel away.
    torch.testing.assert_close(ours, expected[2:], atol=TOLERANCE, rtol=0)
    assert spread(expected) > 20 * TOLERANCE
