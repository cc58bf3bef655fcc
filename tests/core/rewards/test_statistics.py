"""Statistics of images, against plain computations by hand, by loops and by colorsys."""

import colorsys
import math

import numpy as np
import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.rewards.statistics import PIXEL_STATISTICS, STATISTICS, StatisticReward
from pave_core.scoring.score import describe, score


def pixels(image):
    return [tuple(float(v) for v in pixel) for row in image for pixel in row]


def grey(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def spread(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def plain_colourfulness(image):
    a = [255 * (r - g) for r, g, b in pixels(image)]
    b = [255 * (0.5 * (r + g) - b) for r, g, b in pixels(image)]
    return math.hypot(spread(a), spread(b)) + 0.3 * math.hypot(sum(a) / len(a), sum(b) / len(b))


def plain_sharpness(image):
    height, width, _ = image.shape

    def at(y, x):
        return 255 * grey(image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)].tolist())

    return (
        spread(
            [
                at(y - 1, x) + at(y + 1, x) + at(y, x - 1) + at(y, x + 1) - 4 * at(y, x)
                for y in range(height)
                for x in range(width)
            ]
        )
        ** 2
    )


def plain_flatness(image):
    flat = []
    for y in range(image.shape[0] - 1):
        for x in range(image.shape[1] - 1):
            here, right, below = (grey(image[place].tolist()) for place in ((y, x), (y, x + 1), (y + 1, x)))
            flat.append(abs(here - right) < 2 / 255 and abs(here - below) < 2 / 255)
    return sum(flat) / len(flat)


PLAIN = {
    "colourfulness": plain_colourfulness,
    "saturation": lambda image: sum(colorsys.rgb_to_hsv(*pixel)[1] for pixel in pixels(image)) / len(pixels(image)),
    "brightness": lambda image: sum(map(grey, pixels(image))) / len(pixels(image)),
    "contrast": lambda image: spread([grey(pixel) for pixel in pixels(image)]),
    "sharpness": plain_sharpness,
    "warmth": lambda image: sum(r - b for r, g, b in pixels(image)) / len(pixels(image)),
    "flatness": plain_flatness,
}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_that_of_its_definition(images, name):
    found = StatisticReward(name)(images, [""] * len(images))
    assert found.tolist() == pytest.approx([PLAIN[name](image) for image in images], rel=1e-4)
    assert found.std() > 0


@pytest.mark.parametrize(
    ("name", "colour", "value"),
    [
        ("colourfulness", (1, 1, 1), 0),
        ("colourfulness", (1, 0, 0), 0.3 * math.hypot(255, 127.5)),
        ("saturation", (0, 0, 0), 0),
        ("saturation", (0.5, 0.25, 0.25), 0.5),
        ("brightness", (1, 1, 1), 1),
        ("brightness", (0, 1, 0), 0.587),
        ("contrast", (0.3, 0.6, 0.9), 0),
        ("sharpness", (0.3, 0.6, 0.9), 0),
        ("warmth", (1, 0.5, 0), 1),
        ("warmth", (0, 0.5, 1), -1),
    ],
)
def test_one_colour_has_the_value_by_hand(name, colour, value):
    assert StatisticReward(name)(torch.tensor(colour).expand(1, 5, 4, 3), [""]).item() == pytest.approx(value, abs=2e-3)


def test_half_black_half_white_has_the_contrast_one_half():
    image = torch.zeros(1, 4, 4, 3)
    image[:, :2] = 1
    assert StatisticReward("contrast")(image, [""]).item() == pytest.approx(0.5)


def test_a_blurred_image_is_less_sharp():
    wide = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(wide.movedim(-1, 1), 3, 1, 1).movedim(1, -1)
    assert StatisticReward("sharpness")(blurred, [""]) < 0.3 * StatisticReward("sharpness")(wide, [""])


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_takes_tiny_images_four_channels_and_half_precision(images, name):
    assert torch.isfinite(score(StatisticReward(name), torch.rand(2, 2, 2, 3), ["", ""])).all()
    rgba = torch.cat([images, torch.rand(*images.shape[:3], 1)], -1)
    assert torch.equal(StatisticReward(name)(rgba, [""] * 3), StatisticReward(name)(images, [""] * 3))
    assert StatisticReward(name)(images.half(), [""] * 3).tolist() == pytest.approx(
        StatisticReward(name)(images, [""] * 3).tolist(), rel=0.02
    )


def test_direction_says_which_is_better(images):
    values = StatisticReward("brightness", "more")(images, [""] * 3)
    assert torch.equal(StatisticReward("brightness", "less")(images, [""] * 3), -values)
    near = StatisticReward("brightness", "near", values[1].item())(images, [""] * 3)
    assert near[1] == 0
    assert near.tolist() == pytest.approx([-abs(v - values[1].item()) for v in values.tolist()])


def test_the_statistics_of_the_image_statistic_node_are_of_all_numbers(images):
    numbers = images.flatten(1).numpy()
    plain = {"mean": np.mean, "standard deviation": lambda x: x.std(ddof=1), "maximum": np.max, "minimum": np.min}
    for name, statistic in PIXEL_STATISTICS.items():
        assert statistic(images.flatten(1)).tolist() == pytest.approx([float(plain[name](row)) for row in numbers])


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: StatisticReward("beauty"), "statistic"),
        (lambda: StatisticReward("contrast", "most"), "direction"),  # pyright: ignore[reportArgumentType]
        (lambda: StatisticReward("contrast", "near", math.nan), "target"),
        (lambda: StatisticReward("contrast", "near", -math.inf), "target"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .*: .+"):
        make()


def test_recipes_have_name_and_settings():
    assert describe(StatisticReward("sharpness", "near", 120.0)) == {
        "name": "sharpness",
        "direction": "near",
        "target": 120.0,
    }
    assert describe(StatisticReward("sharpness")) == {"name": "sharpness", "direction": "more"}
