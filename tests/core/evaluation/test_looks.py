"""What became of the images, against values that are known from how they were drawn."""

import pytest
import torch

from pave_core.evaluation.looks import WATCHED, Change, Looks
from pave_core.rewards.statistics import STATISTICS
from pave_core.seeds import seeded


def drawn(N=12, side=32) -> torch.Tensor:
    """N images of a square, each at another place and in another colour."""
    images = torch.tensor([0.2, 0.15, 0.1]).expand(N, side, side, 3).clone()
    places = torch.randint(0, side - 8, (N, 2), generator=seeded(1)).tolist()
    for i, (x, y) in enumerate(places):
        images[i, y : y + 8, x : x + 8] = torch.tensor([0.9, 0.5, 0.4]) - 0.02 * i
    return images


def change(after, before=None) -> Change:
    found = Change.of(Looks.of(drawn() if before is None else before), Looks.of(after))
    assert found is not None
    return found


def test_images_that_stay_as_they_are_have_not_changed():
    found = change(drawn())
    assert (found.drift, found.variety) == (0, 1)
    assert all(shift == 0 for *_, shift in found.statistics.values())
    assert found.text() is None


def test_each_statistic_is_the_reward_s_own():
    before, after = drawn(), drawn().flip(2) * 0.7
    found = change(after, before)
    for name in WATCHED:
        mean, now, shift = found.statistics[name]
        values = STATISTICS[name](before)
        assert mean == pytest.approx(values.mean().item(), rel=1e-5)
        assert now == pytest.approx(STATISTICS[name](after).mean().item(), rel=1e-5)
        assert shift == pytest.approx((now - mean) / values.std().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("kill", "said"),
    [
        (lambda images: images.mean((1, 2), keepdim=True).expand_as(images), ["contrast", "(-100%)", "sharpness"]),
        (lambda images: (0.5 * images).clamp(0.0, 0.1), ["brightness", "contrast"]),
        (lambda images: images[:1].expand_as(images), ["differ from each other by 0% of what they did"]),
        (lambda images: 1 - images, ["times as far as two images of the base model lie apart"]),
        (lambda images: images + 0.1 * torch.randn(images.shape, generator=seeded(2)), ["sharpness"]),
    ],
    ids=["shapes gone", "dark", "all one", "inverted", "noise"],
)
def test_images_that_died_are_told_by_what_moved(kill, said):
    text = change(kill(drawn()).clamp(0, 1)).text()
    assert text is not None
    assert text.startswith("the images have changed much: ")
    assert all(words in text for words in said), text
    assert text.endswith("by a second reward or by Pave Guard")


@pytest.mark.parametrize(
    "harmless",
    [
        lambda images: images.roll(2, 1),
        lambda images: 1.1 * images,
        lambda images: images + 0.01 * torch.randn(images.shape, generator=seeded(2)),
        lambda images: images * torch.tensor([1.0, 0.95, 0.9]),
    ],
    ids=["shapes moved", "brighter", "some noise", "warmer"],
)
def test_what_training_is_for_is_no_alarm(harmless):
    assert change(harmless(drawn()).clamp(0, 1)).text() is None


def test_from_nothing_something():
    """Black-and-white images have a saturation of 0, which nothing can be a multiple of."""
    colours = drawn() * torch.tensor([1.0, 0.5, 0.5])
    grey = colours.mean(-1, keepdim=True).expand(-1, -1, -1, 3)
    assert "saturation 0 -> 0.7" in (change(colours, grey).text() or "")


def test_of_thousands_of_images_some_stand_for_all():
    small = torch.rand(1500, 8, 8, 3, generator=seeded(3))
    found = change(small[:1].expand_as(small), small)
    assert found.variety == 0
    apart = 1 / 3  # of two even numbers in [0, 1]
    assert found.drift == pytest.approx((small - small[:1]).abs().mean().item() / apart, rel=0.01)


def test_a_single_image_tells_nothing():
    one = Looks.of(drawn(1))
    assert Change.of(one, one) is None
