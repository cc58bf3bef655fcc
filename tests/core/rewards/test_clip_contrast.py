"""CLIP contrast against open_clip's own logits and torch's cross-entropy, and its limits."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from pave_core.errors import ConfigError
from pave_core.rewards.clip_contrast import CLIPContrast
from pave_core.rewards.networks.compute import Compute
from pave_core.scoring.score import describe

OTHERS = ("a blue fox in the snow", "a red car in the snow")


@pytest.fixture
def contrast(tiny_clip, tmp_path):
    """contrast(against, scale=..., **compute) -> a CLIPContrast of the tiny architecture."""

    def made(against=OTHERS, scale=None, **compute):
        files = tmp_path / "tiny.safetensors", tmp_path / "open_clip_config.json"
        return CLIPContrast(*files, Compute(**compute), against=against, scale=scale)

    return made


@pytest.fixture
def images(world):
    return torch.stack([world.picture(i, 40, 56) for i in range(3)])


def logits(tiny_clip, world, images, prompts):
    """(N, M) by open_clip's own methods: exp(logit_scale) times the cosines."""
    import open_clip

    model, pictures = tiny_clip.model, world.pil(images)
    with torch.no_grad():
        image = torch.cat([model.encode_image(tiny_clip.transform(each)[None]) for each in pictures])
        text = model.encode_text(open_clip.SimpleTokenizer()(list(prompts)))
        return model.logit_scale.exp() * normalize(image, dim=-1) @ normalize(text, dim=-1).T


def test_it_is_minus_the_cross_entropy_of_clips_own_logits(contrast, tiny_clip, world, images):
    """Each image against the other two prompts and the wrong ones; column i is the right one of image i."""
    candidates = [*world.prompts, *OTHERS]
    expected = -cross_entropy(logits(tiny_clip, world, images, candidates), torch.arange(3), reduction="none")
    reward = contrast(against=candidates, batch_size=2)
    torch.testing.assert_close(reward(images, world.prompts), expected, atol=2e-3, rtol=0)
    assert (expected.max() - expected.min()) > 0.1


def test_the_probabilities_of_all_candidates_add_up_to_one(contrast, world, images):
    reward = contrast(against=world.prompts)
    shares = torch.stack([reward(images, [prompt] * 3).exp() for prompt in world.prompts])
    torch.testing.assert_close(shares.sum(0), torch.ones(3), atol=1e-4, rtol=0)


def test_repetitions_and_the_prompt_itself_change_nothing(contrast, world, images):
    prompt = world.prompts[0]
    plain = contrast(against=OTHERS)(images, [prompt] * 3)
    repeated = contrast(against=[OTHERS[1], prompt, *OTHERS, prompt])(images, [prompt] * 3)
    torch.testing.assert_close(repeated, plain, atol=1e-5, rtol=0)


def test_each_image_is_contrasted_by_its_own_prompt(contrast, world, images):
    """A batch of several prompts gives what each prompt gives alone."""
    reward = contrast(against=world.prompts)
    alone = torch.cat([reward(images[i : i + 1], [prompt]) for i, prompt in enumerate(world.prompts)])
    torch.testing.assert_close(reward(images, world.prompts), alone, atol=1e-4, rtol=0)


def test_a_scale_near_0_makes_all_candidates_alike(contrast, world, images):
    reward = contrast(scale=1e-6)(images, world.prompts)
    torch.testing.assert_close(reward, torch.full((3,), -math.log(1 + len(OTHERS))), atol=1e-4, rtol=0)


def test_a_large_scale_is_the_hinge_of_the_best_wrong_prompt(contrast, tiny_clip, world, images):
    """lim r / s = min(0, cosine of the prompt - the largest of the others)."""
    cosines = logits(tiny_clip, world, images, [*world.prompts, *OTHERS]) / tiny_clip.model.logit_scale.exp()
    margin = (cosines.diagonal() - cosines[:, 3:].amax(1)).clamp(max=0)
    torch.testing.assert_close(contrast(scale=1e4)(images, world.prompts) / 1e4, margin, atol=2e-4, rtol=0)
    assert margin.min() < -1e-3


def test_a_prompt_is_encoded_once_and_alone(contrast, world, images):
    reward = contrast(against=[*OTHERS, world.prompts[0]])
    calls = []
    network = reward._clip._network
    network.encode_text = lambda tokens, encode=network.encode_text: calls.append(len(tokens)) or encode(tokens)
    reward(images, world.prompts)
    reward(images, world.prompts)
    assert calls == [1] * 5


def test_a_recipe_names_what_it_is_contrasted_with(contrast):
    described = describe(contrast())
    assert described["name"] == "clip contrast"
    assert described["against"] == list(OTHERS)
    assert described["scale"] == pytest.approx(math.exp(4.6), rel=1e-5)
    assert describe(contrast(scale=7.0))["scale"] == 7.0


def test_without_another_prompt_there_is_nothing_to_contrast(contrast, world, images):
    with pytest.raises(ConfigError, match=r"^against: there are no other prompts: write wrong ones, one a line, or"):
        contrast(against=[])
    reward = contrast(against=world.prompts[:1])
    with pytest.raises(ConfigError, match=r"^against: 'a red fox in the snow' is the image's own prompt: give others"):
        reward(images, world.prompts)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_must_be_above_0(contrast, scale):
    with pytest.raises(ConfigError, match=rf"^scale: {scale} is not above 0"):
        contrast(scale=scale)
