"""The settings of the adapter."""

import pytest

from pave_core.config.adapter import LoraConfig
from pave_core.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank: 0 is below 1"),
        ({"alpha": 0}, r"alpha: 0 is below 0\.01: the adapter is scaled by alpha / rank"),
        ({"targets": "everything"}, "targets: 'everything' is not known"),
        ({"init": "zero"}, "init: 'zero' is not known"),
    ],
)
def test_bad_settings_name_the_field_and_the_value(values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        LoraConfig(**values)
