"""What make_tiny.py trains on: captions that are wrong in one thing, and pairs of pictures that differ in one thing."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from pave_core.rewards.shapes import COLOURS, canonical_captions


@pytest.fixture(scope="module")
def made(host):
    """The stages' modules, which need the host."""
    return SimpleNamespace(
        **{name: importlib.import_module(f"_tiny.{name}") for name in ("data", "flow", "preference")}
    )


def test_a_wrong_caption_names_the_opposite_colour_or_the_opposite_shape(made, monkeypatch):
    monkeypatch.setattr(made.flow, "EMPTY", 0.0)
    rng = made.data.generator(0)
    scenes = made.data.draw_scenes(50, rng)
    pick = torch.randint(50, (4000,), generator=rng)
    own = scenes.caption_index[pick]
    assert torch.equal(made.flow._captions(scenes, pick, rng, mislabelled=0.0), own)
    index = made.flow._captions(scenes, pick, rng, mislabelled=1.0)
    captions = canonical_captions()
    opposite = {"red": "cyan", "green": "purple", "blue": "yellow", "circle": "star", "square": "triangle"}
    opposite |= {b: a for a, b in opposite.items()}
    colours = 0
    for before, after in zip(own.tolist(), index.tolist(), strict=True):
        (changed,) = [pair for pair in zip(captions[before].split(), captions[after].split()) if pair[0] != pair[1]]
        assert opposite[changed[0]] == changed[1]
        colours += changed[0] in COLOURS
    assert 0.46 < colours / 4000 < 0.54
    share = (made.flow._captions(scenes, pick, rng, mislabelled=0.35) != own).float().mean()
    assert 0.32 < share < 0.38


def test_the_other_picture_of_a_pair_is_worse_in_what_its_kind_says(made):
    """By pixels: the colour of the middle, the area, and the overlap with a clean shape of the same size and place."""
    preference, rng = made.preference, made.data.generator(2)
    n = 240
    kind = torch.arange(n) % 4
    right = preference._resized(made.data.draw_scenes(n, rng), rng, *preference.LARGE)
    pictures = made.data.render(right), preference._others(right, kind, rng)
    area, middle = [], []
    for each in pictures:
        shape = (each - right.background_rgb[:, :, None, None]).abs().amax(1) > 0.1  # (n, 64, 64)
        area.append(shape.float().mean((1, 2)))
        cores = [picture[:, core].mean(1) for picture, core in zip(each, shape, strict=True)]
        middle.append(torch.stack(cores))
    of_kind = {name: kind == i for i, name in enumerate(preference.KINDS)}
    change = (middle[0] - middle[1]).abs().amax(1)
    assert change[of_kind["colour"]].min() > 0.2
    assert change[of_kind["shape"] | of_kind["size"]].max() < 0.2
    assert (area[1] / area[0])[of_kind["size"]].max() < 0.8
    assert 0.9 < (area[1] / area[0])[of_kind["colour"]].mean() < 1.1
