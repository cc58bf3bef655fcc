"""The size of an image's JPEG, against Pillow."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from pave_core.errors import ConfigError
from pave_core.images import picture
from pave_core.rewards.jpeg import JPEGSize
from pave_core.scoring.score import describe


def test_the_size_of_a_jpeg_is_that_of_pillow_in_thousand_bytes(images):
    large = torch.nn.functional.interpolate(images.movedim(-1, 1), scale_factor=20).movedim(1, -1)
    sizes = []
    for image in large:
        file = io.BytesIO()
        Image.fromarray((image.numpy() * 255).round().astype(np.uint8)).save(file, format="JPEG", quality=95)
        sizes.append(len(file.getbuffer()) / 1000)
    assert JPEGSize("large files")(large, [""] * 3).tolist() == pytest.approx(sizes)
    assert JPEGSize("small files")(large, [""] * 3).tolist() == pytest.approx([-size for size in sizes])


def test_noise_is_larger_than_a_flat_image():
    both = torch.stack([torch.rand(64, 64, 3), torch.full((64, 64, 3), 0.5)])
    noise, flat = JPEGSize("large files")(both, ["", ""]).tolist()
    assert noise > 5 * flat > 0


def test_a_picture_is_rounded_and_clamped():
    values = torch.tensor([[-1.0, 0.0, 0.4 / 255], [0.6 / 255, 1.0, 7.0]]).view(1, 2, 3)
    assert np.asarray(picture(values)).tolist() == [[[0, 0, 0], [1, 255, 255]]]
    assert picture(torch.rand(5, 7, 4).requires_grad_()).size == (7, 5)
    assert picture(torch.rand(5, 7, 4)).mode == "RGB"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: JPEGSize("small"), "prefer"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_settings_that_cannot_work_are_refused(make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .*: .+"):
        make()


def test_a_recipe_has_name_and_settings():
    assert json.loads(json.dumps(describe(JPEGSize()))) == {"name": "jpeg size", "prefer": "small files"}
