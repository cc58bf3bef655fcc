"""The settings of the optimizer."""

import pytest

from pave_core.config.optimizer import OptimConfig
from pave_core.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0}, "learning_rate: 0"),
        ({"step": "sometimes"}, "optimizer_step: 'sometimes'"),
        ({"optimizer": "Adagrad"}, "optimizer: 'Adagrad' is not known"),
        ({"schedule": "sine"}, "schedule: 'sine' is not known"),
        ({"schedule": "cosine", "decay_steps": 0}, "decay_steps: 0 is not above warmup_steps 0"),
        ({"schedule": "linear", "warmup_steps": 5, "decay_steps": 5}, "decay_steps: 5 is not above warmup_steps 5"),
    ],
)
def test_bad_settings_name_the_field_and_the_value(values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        OptimConfig(**values)


def test_a_constant_schedule_does_not_use_decay_steps():
    assert OptimConfig(decay_steps=0).decay_steps == 0
