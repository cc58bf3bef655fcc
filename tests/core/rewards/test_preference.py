"""The bundled preference model: its score by open_clip's own features, and what it prefers in pictures by Pillow."""

import json

import open_clip
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch.nn.functional import gelu, normalize

from pave_core.errors import ConfigError
from pave_core.rewards.networks.compute import Compute
from pave_core.rewards.preference import TinyPreference
from pave_core.scoring.score import describe

PROMPTS = ("a red circle on a dark background", "a blue square on a light background")
RED, BLUE, DARK, LIGHT = (219, 31, 31), (36, 66, 219), (26, 26, 26), (224, 224, 224)


@pytest.fixture
def files(root):
    """Head, CLIP and its config."""
    tiny = root / "assets" / "tiny"
    return tiny / "preference.safetensors", tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json"


@pytest.fixture
def reward(files):
    return TinyPreference(*files, Compute(batch_size=2))


def drawn(shape, colour, background, radius=20):
    """A picture (64, 64, 3) in [0, 1] with an ellipse or a rectangle in the middle, by Pillow, without soft edges."""
    picture = Image.new("RGB", (64, 64), background)
    getattr(ImageDraw.Draw(picture), shape)((32 - radius, 32 - radius, 32 + radius, 32 + radius), fill=colour)
    return torch.tensor(list(picture.getdata())).view(64, 64, 3) / 255


def test_it_is_an_mlp_on_open_clips_own_features(reward, files, world):
    head, weights, config = files
    model = open_clip.CLIP(**json.loads(config.read_text())["model_cfg"])
    open_clip.load_checkpoint(model, str(weights))
    images = torch.stack([drawn("ellipse", RED, DARK), drawn("rectangle", RED, LIGHT), world.picture(1, 64, 64)])
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    tokens = open_clip.SimpleTokenizer(context_length=model.context_length)(prompts)
    w = {key: value.float() for key, value in load_file(head).items()}
    with torch.no_grad():
        f = normalize(model.eval().encode_image(images.movedim(-1, 1) * 2 - 1), dim=1)
        g = normalize(model.encode_text(tokens), dim=1)
        hidden = gelu(torch.cat([8 * f, 8 * g, 64 * f * g], 1) @ w["layers.0.weight"].T + w["layers.0.bias"])
        expected = (hidden @ w["layers.2.weight"].T + w["layers.2.bias"]).squeeze(1)
    torch.testing.assert_close(reward(images, prompts), expected, atol=1e-3, rtol=0)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("prompt", "preferred", "other"),
    [
        (PROMPTS[0], ("ellipse", RED, DARK), ("ellipse", BLUE, DARK)),
        (PROMPTS[0], ("ellipse", RED, DARK), ("rectangle", RED, DARK)),
        (PROMPTS[0], ("ellipse", RED, DARK, 21), ("ellipse", RED, DARK, 14)),
        (PROMPTS[1], ("rectangle", BLUE, LIGHT), ("rectangle", RED, LIGHT)),
        (PROMPTS[1], ("rectangle", BLUE, LIGHT), ("ellipse", BLUE, LIGHT)),
    ],
)
def test_it_prefers_the_right_colour_the_right_shape_and_large_ones(reward, prompt, preferred, other):
    scores = reward(torch.stack([drawn(*preferred), drawn(*other)]), [prompt, prompt])
    assert scores[0] > scores[1] + 0.2


def test_a_recipe_names_its_files(reward):
    described = describe(reward)
    assert described["name"] == "preference"
    assert [described[name]["file"] for name in ("head", "clip")] == [
        "preference.safetensors",
        "open_clip_model.safetensors",
    ]


def test_a_file_that_is_no_head_is_refused(files):
    _, weights, config = files
    with pytest.raises(ConfigError, match=r"^head: open_clip_model\.safetensors does not fit the bundled preference"):
        TinyPreference(weights, weights, config)
