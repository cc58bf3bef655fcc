"""Images as 8-bit pictures."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pave_core.images import eight_bit, encoded, picture, thumbnail


def test_values_are_rounded_to_the_nearest_of_256():
    image = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 1.0, -0.2, 1.2]).view(1, 2, 3)
    assert eight_bit(image).flatten().tolist() == [0, 0, 1, 255, 0, 255]


def test_every_8_bit_value_survives():
    values = torch.arange(256).repeat(3).view(16, 16, 3)
    assert np.array_equal(eight_bit(values / 255), values.numpy())


def test_transparency_is_left_out_of_a_picture():
    made = picture(torch.rand(5, 7, 4))
    assert (made.mode, made.size) == ("RGB", (7, 5))


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("JPEG", {"quality": 95})])
def test_a_picture_is_encoded_as_a_file_of_its_format(format, options):
    read = Image.open(io.BytesIO(encoded(torch.full((8, 8, 3), 0.5), format, **options)))
    assert read.format == format
    assert np.abs(np.asarray(read).astype(int) - 128).max() <= 1


def test_a_thumbnail_is_small_in_pixels_and_in_bytes():
    image = torch.randint(0, 256, (300, 200, 3), generator=torch.Generator().manual_seed(0)).byte()
    small = Image.open(io.BytesIO(thumbnail(image, 100, 1_000_000)))
    assert (small.format, small.size) == ("JPEG", (67, 100))
    tight = thumbnail(image, 300, 5_000)
    assert len(tight) <= 5_000
    assert max(Image.open(io.BytesIO(tight)).size) >= 32
    assert max(Image.open(io.BytesIO(thumbnail(image, 300, 1))).size) == 32, "an image is shown in any case"
    flat = Image.open(io.BytesIO(thumbnail(torch.full((8, 8, 3), 0.5), 100, 1000)))
    assert flat.size == (8, 8)
    assert all(abs(value - 128) <= 2 for value in flat.getpixel((3, 3)))
