"""Which prompts a step draws."""

import pytest

from _toy import toy_config
from pave_core.errors import ConfigError
from pave_core.rollout.curriculum import prompts_of_step


def test_every_prompt_has_its_turn():
    config, prompts = toy_config(), ["a", "b", "c"]
    chosen = [p for step in range(6) for p in prompts_of_step(prompts, config, step)]
    for epoch in range(4):
        assert sorted(chosen[3 * epoch : 3 * epoch + 3]) == prompts


def test_no_prompts_are_refused():
    with pytest.raises(ConfigError, match="^prompts: there are none to train on"):
        prompts_of_step([], toy_config(), 0)
