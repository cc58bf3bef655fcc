"""Scores of what comes over wires."""

import math

import pytest
import torch

from _toy import Brightness, Redness
from pave_core.errors import ConfigError
from pave_core.scoring.from_wires import score, scores_from_numbers
from pave_core.scoring.mix import RewardMix, Scores
from pave_core.seeds import seeded
from pave_core.types import Groups


class Counts(Brightness):
    """Brightness that remembers how many images came in each call."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, prompts):
        assert len(images) == len(prompts)
        self.calls.append(len(images))
        return super().__call__(images, prompts)


def test_pictures_of_several_sizes_are_scored_in_their_order():
    sizes = [(4, 4), (4, 4), (2, 6), (4, 4)]
    pictures = [torch.rand(*size, 3, generator=seeded(i)) for i, size in enumerate(sizes)]
    counts = Counts()
    scores = score(RewardMix((counts, Redness()), (1.0, 0.5), "raw"), pictures, ["a", "b", "c", "d"])
    assert counts.calls == [2, 1, 1]
    torch.testing.assert_close(scores.values["brightness"], torch.stack([picture.mean() for picture in pictures]))
    assert (list(scores.values), scores.weights, scores.normalise) == (["brightness", "redness"], (1.0, 0.5), "raw")


def test_numbers_come_in_any_nesting():
    scores = scores_from_numbers([1, [2.5, (3,)], torch.tensor([[4.0], [5.0]])], " own ", 2.0, None)
    assert scores.values["own"].tolist() == [1.0, 2.5, 3.0, 4.0, 5.0]
    assert scores.weights == (2.0,)
    assert list(scores_from_numbers([1, 2], "", 1.0, None).values) == ["graph"]


def test_numbers_join_other_scores_of_the_same_images():
    beside = Scores({"brightness": torch.tensor([1.0, 2.0])}, (1.0,), "raw")
    joined = scores_from_numbers([10, 20], "own", -0.5, beside)
    assert joined.total().tolist() == [1 - 5, 2 - 10]
    assert joined.normalise == "raw"
    assert list(beside.values) == ["brightness"]


@pytest.mark.parametrize(
    ("numbers", "name", "weight", "message"),
    [
        ([], "own", 1.0, "numbers: there are none"),
        ([1.0, math.nan], "own", 1.0, "numbers: number 2 of 2 is nan"),
        ([1.0, math.inf], "own", 1.0, "numbers: number 2 of 2 is inf"),
        (["1"], "own", 1.0, "numbers: '1' is not a number"),
        ([1.0, 2.0, 3.0], "own", 1.0, "numbers: 3 beside 2 of brightness"),
        ([1.0, 2.0], "brightness", 1.0, "name: 'brightness' is the name of scores"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers, name, weight, message):
    beside = Scores({"brightness": torch.tensor([1.0, 2.0])})
    with pytest.raises(ConfigError, match=f"^{message}"):
        scores_from_numbers(numbers, name, weight, beside)


def test_numbers_alone_need_a_weight():
    with pytest.raises(ConfigError, match="^weight: 0 leaves nothing to learn from"):
        scores_from_numbers([1.0, 2.0], "own", 0.0, None)


def test_a_person_is_asked_about_neighbours_of_one_prompt():
    class Person:
        name, may_abstain = "person", True

        def __call__(self, images, prompts):
            return torch.full((len(images),), math.nan)

        def ask(self, images, prompts, groups):
            asked.append((len(images), groups))
            return torch.arange(len(images)).float()

    asked = []
    mix = RewardMix.of(Person())
    pictures = [torch.rand(2, 2, 3, generator=seeded(i)) for i in range(6)]
    assert score(mix, pictures, ["a"] * 4 + ["b"] * 2).values["person"].tolist() == [0, 1, 2, 3, 4, 5]
    assert asked == [(6, Groups(2))]
    assert score(mix, pictures, list("abcdef")).values["person"].isnan().all(), "one image has nothing to stand beside"
    assert len(asked) == 1
