"""Pictures of pictures."""

import math

import pytest
import torch

from _toy import SEEDS, Brightness, Redness, Shy, drive, toy_config
from pave_core.evaluation.evaluate import Evaluation
from pave_core.images import picture
from pave_core.pictures.sheets import before_after_grid, group_sheet
from pave_core.scoring.mix import RewardMix

RED, GREEN, BLUE, YELLOW = (torch.tensor(colour) for colour in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (1.0, 1.0, 0)))


def columns_of(sheet, colour):
    """The leftmost pixel of each place on a sheet where a picture of plain `colour` is."""
    there = (sheet - colour).abs().amax(-1).le(0.01)
    inside = there.sum(0) >= 32  # text is not as high
    return [x for x in range(1, len(inside)) if inside[x] and not inside[x - 1]]


def plain(*colours):
    return torch.stack([colour.expand(64, 64, 3) for colour in colours])


def evaluation(*colours, total):
    prompts = ("a cat", "a cat", "a dog", "a dog")[: len(colours)]
    return Evaluation(prompts, (1, 2, 1, 2)[: len(colours)], plain(*colours), {}, torch.tensor(total), None)


def test_a_grid_of_a_run(begin, artifacts):
    run = begin(toy_config(iterations=12), reward=RewardMix((Brightness(), Redness()), (1.0, 1.0)))
    drive(run)
    outcome = run.finish()
    before, after = run.measurements.before, run.measurements.evaluations[12]
    assert len(before.prompts) == 3 * len(SEEDS)
    grid = before_after_grid(before, after)
    assert grid.shape[-1] == 3
    assert grid.std() > 0.05
    assert torch.equal(outcome.grid, grid)
    picture(grid).save(artifacts / "core_grid.png")


def test_a_grid_of_images_without_a_score(begin):
    run = begin(toy_config(iterations=2), reward=Shy())
    drive(run)
    run.finish()
    grid = before_after_grid(run.measurements.before, run.measurements.evaluations[2])
    assert grid.isfinite().all()


def test_pairs_of_a_seed_stand_side_by_side():
    before = evaluation(RED, GREEN, total=[0.0, 0.0])
    after = evaluation(BLUE, YELLOW, total=[1.0, -1.0])
    grid = before_after_grid(before, after)
    places = [columns_of(grid, colour) for colour in (RED, BLUE, GREEN, YELLOW)]
    assert [len(place) for place in places] == [1, 1, 1, 1]
    assert places == sorted(places)


def test_a_grid_has_at_most_so_many_rows_and_pairs():
    before = evaluation(RED, GREEN, BLUE, YELLOW, total=[0.0] * 4)
    whole = before_after_grid(before, before)
    assert before_after_grid(before, before, rows=1).shape[0] < whole.shape[0]
    one = before_after_grid(before, before, pairs=1)
    assert [len(columns_of(one, colour)) for colour in (RED, GREEN, BLUE, YELLOW)] == [2, 0, 2, 0]


@pytest.mark.parametrize("seeds", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 128), (128, 64)])
def test_short_rows_stand_in_columns(width, height, count, seeds):
    """Every picture is there once, and the sheet is not a strip, unless there is only one prompt."""
    prompts = tuple(f"number {n}" for n in range(count) for _ in range(seeds))
    colours = torch.arange(30, 30 + 5 * len(prompts), 5) / 255  # none of them white
    images = colours[:, None, None, None].expand(-1, height, width, 3)
    some = Evaluation(prompts, tuple(range(seeds)) * count, images, {}, torch.zeros(len(prompts)), None)
    grid = before_after_grid(some, some)
    numbers = torch.zeros(count, 1, seeds)
    groups = group_sheet(images, prompts, labels=["step 1"], rewards=numbers, advantages=numbers)
    for sheet in (grid, groups):
        found = sheet[::4, ::4].mean(-1)
        assert all((found - colour).abs().lt(1 / 255).sum() > 50 for colour in colours)
        assert count == 1 or sheet.shape[0] <= 1.2 * sheet.shape[1]


@pytest.mark.parametrize("after", [[0.1, -3.0], [0.0, 2.0], [math.nan, 0.5]])
def test_of_many_seeds_a_grid_has_those_that_changed_most_up_or_down(after):
    before = evaluation(RED, GREEN, total=[0.0, 0.0])
    grid = before_after_grid(before, evaluation(BLUE, YELLOW, total=after), pairs=1)
    assert [len(columns_of(grid, colour)) for colour in (RED, BLUE, GREEN, YELLOW)] == [0, 0, 1, 1]


def test_the_seeds_of_a_grid_stay_in_their_order():
    before = evaluation(RED, GREEN, total=[0.0, 0.0])
    grid = before_after_grid(before, evaluation(BLUE, YELLOW, total=[0.5, 2.0]), pairs=2)
    places = [columns_of(grid, colour)[0] for colour in (RED, BLUE, GREEN, YELLOW)]
    assert places == sorted(places)


def sheet_of(rewards, colours=(RED, GREEN, BLUE), **more):
    """A sheet of one group with these rewards."""
    advantages = torch.zeros(1, 1, len(colours))
    rewards = torch.tensor([[rewards]])
    prompts = ["a cat"] * len(colours)
    return group_sheet(
        plain(*colours), prompts, labels=["branch step 2"], rewards=rewards, advantages=advantages, **more
    )


@pytest.mark.parametrize(
    ("rewards", "order"),
    [
        ([0.1, 0.3, 0.2], (GREEN, BLUE, RED)),
        ([0.5, 0.5, 0.9], (BLUE, RED, GREEN)),
        ([math.nan, 0.3, -0.2], (GREEN, BLUE, RED)),
    ],
)
def test_a_group_is_sorted_by_reward_and_what_was_not_scored_comes_last(rewards, order):
    sheet = sheet_of(rewards)
    places = [columns_of(sheet, colour)[0] for colour in order]
    assert places == sorted(places)


def test_a_sheet_shows_at_most_so_many_groups():
    images, prompts = plain(*[RED] * 24), ["a cat"] * 24
    rewards = torch.arange(24.0).view(2, 4, 3)

    def height(rows):
        labels = [f"branch step {k}" for k in range(4)]
        return group_sheet(images, prompts, labels=labels, rewards=rewards, advantages=rewards, rows=rows).shape[0]

    assert height(2) < height(4) < height(8) == height(12)


def lines_of(sheet):
    """The heights of the lines of text on a sheet of white pictures, in pixels of a node on the page, 760 across."""
    there = [False, *(sheet.amin((1, 2)) < 0.6).tolist(), False]
    edges = [y for y in range(1, len(there)) if there[y] != there[y - 1]]
    return [(end - start) * 760 / sheet.shape[1] for start, end in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("side", [64, 512])
def test_what_is_written_on_a_wide_sheet_can_be_read_in_a_node(side):
    """Capitals and digits are more than 7 pixels high, as those of a font of 10 to 11 pixels."""
    white = torch.ones(8, side, side, 3)
    scores = torch.arange(8.0)
    before = Evaluation(("A RED FOX",) * 8, tuple(range(8)), white, {}, scores, None)
    grid = before_after_grid(before, before, labels=("BEFORE", "AFTER"))
    sheet = group_sheet(
        torch.ones(12, side, side, 3),
        ["A RED FOX"] * 12,
        labels=["STEP 1"],
        rewards=torch.arange(12.0).view(1, 1, 12),
        advantages=torch.arange(12.0).view(1, 1, 12),
    )
    for picture_of in (grid, sheet):
        lines = lines_of(picture_of)
        print(side, picture_of.shape, [round(line, 1) for line in lines])
        assert len(lines) == 3
        assert min(lines) > 7
