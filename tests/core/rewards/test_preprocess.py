"""Images as networks expect them, against open_clip's and transformers' own image processors."""

import open_clip
import pytest
import torch

from _networks import clip_processor, siglip_processor
from pave_core.rewards.networks.preprocess import Preprocess

SIZES = ((224, 224), (64, 64), (225, 301), (97, 150), (301, 240), (512, 131), (223, 448))


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
        Preprocess((384, 384), mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash")(image[None]),
        expected,
        atol=1e-6,
        rtol=0,
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
