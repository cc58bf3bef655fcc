"""The settings of the rollout."""

import math

import pytest

from pave_core.config.fields import from_shown
from pave_core.config.rollout import RolloutConfig
from pave_core.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"group_size": 1}, "group_size: 1 is below 2"),
        ({"steps": 4, "branch_steps": (0, 4)}, r"branch_steps: 4 is outside \[0, 4\): lower it or raise steps"),
        ({"branch_steps": (-1,)}, "branch_steps: -1 is outside"),
        ({"steps": 4, "branch_steps": (3,)}, "branch_steps: 3 is the last of 4 steps"),
        ({"branch_steps": ()}, "branch_steps: empty"),
        ({"branch_steps": (1, 1)}, "branch_steps: 1, 1 repeats"),
        ({"eta": 0}, "eta: 0 is below 0.01: without noise all branches are the same image"),
        ({"eta": -0.5}, "eta: -0.5 is below 0.01"),
        ({"eta": math.nan}, "eta: nan is not a number: without noise"),
    ],
)
def test_bad_settings_name_the_field_and_the_value(values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        RolloutConfig(**values)


def test_branch_steps_are_in_order_however_they_are_written():
    assert from_shown(RolloutConfig, {"branch_steps": "4, 0"}).branch_steps == (0, 4)
    assert RolloutConfig(branch_steps=(4, 0)) == RolloutConfig(branch_steps=(0, 4))


def test_a_prompt_draws_k_times_g_images():
    assert RolloutConfig(branch_steps=(0, 1, 2), group_size=5).images == 15
