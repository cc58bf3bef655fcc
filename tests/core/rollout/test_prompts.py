"""Prompts: parsing, and the part that is held out."""

import pytest

from pave_core.errors import ConfigError
from pave_core.rollout.prompts import parse_prompts, split_prompts


def test_prompts_skip_comments_and_blank_lines():
    assert parse_prompts("\n# comment\n a cat \n\na dog\na cat\n") == ["a cat", "a dog"]


def test_the_held_out_part_is_fixed_by_the_seed_and_never_everything():
    prompts = [f"p{i}" for i in range(10)]
    split = split_prompts(prompts, 0.2, 1)
    assert split == split_prompts(prompts, 0.2, 1)
    assert len(split.held_out) == 2
    assert sorted(split.train + split.held_out) == sorted(prompts)
    assert split_prompts(["a", "b"], 0.9, 0).train
    assert split_prompts(["a"], 0.5, 0).evaluated == ("a",)


def test_another_seed_holds_out_others_and_none_are_held_out_at_zero():
    prompts = [f"p{i}" for i in range(10)]
    assert len({split_prompts(prompts, 0.2, seed).held_out for seed in range(20)}) > 1
    assert split_prompts(prompts, 0.0, 1).held_out == ()
    assert split_prompts(prompts, 0.01, 1).held_out  # at least one


@pytest.mark.parametrize(
    ("prompts", "held_out", "message"),
    [
        ([], 0.2, "prompts: there are none"),
        (["a"], 1.0, "held_out: 1.0 is outside"),
        (["a"], -0.1, "held_out: -0.1 is outside"),
    ],
)
def test_what_cannot_be_split_is_refused(prompts, held_out, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        split_prompts(prompts, held_out, 0)
