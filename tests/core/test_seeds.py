"""Randomness that depends on what it is for."""

import torch

from pave_core.seeds import seeded


def test_the_same_purpose_draws_the_same_and_another_another():
    draws = [
        torch.randn(4, generator=seeded(*purpose))
        for purpose in ((0, "noise", 1), (0, "noise", 1), (1, "noise", 1), (0, "noise", 2), (0, "order", 1), (0,))
    ]
    assert torch.equal(draws[0], draws[1])
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws) - 1


def test_it_does_not_depend_on_what_was_drawn_before_nor_change_it():
    before = torch.random.get_rng_state()
    first = torch.randn(4, generator=seeded(3, "noise"))
    torch.randn(4, generator=seeded(3, "other"))
    assert torch.equal(torch.randn(4, generator=seeded(3, "noise")), first)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_numbers_do_not_change_between_versions():
    """A run is to be resumed, and trained again from its recipe, by later versions."""
    assert seeded(0, "noise", 1).initial_seed() == 1975832920945326368
