"""The settings of the objective."""

import math

import pytest

from pave_core.config.fields import from_shown
from pave_core.config.objective import PaveConfig
from pave_core.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segments": (1,)}, "segments: 1 is below 2"),
        ({"segments": (2, 2)}, "segments: 2, 2 repeats"),
        ({"advantage_clip": 0}, "advantage_clip: 0"),
        ({"segment_weights": (1.0,)}, "segment_weights: 1 with segments 2, 3"),
        ({"segment_weights": (1.0, -1.0)}, "segment_weights: -1.0 is below 0"),
        ({"plain_weight": math.nan}, "plain_weight: nan is not a number"),
        ({"plain_weight": 0, "segment_weights": (0, 0)}, "plain_weight: all terms of the loss have weight 0"),
        ({"plain_weight": 0, "segments": ()}, "plain_weight: 0 with segments empty: the loss would have no term"),
    ],
)
def test_bad_settings_name_the_field_and_the_value(values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        PaveConfig(**values)


@pytest.mark.parametrize(
    ("segments", "segment_weights", "kept"),
    [("3, 2", "0.5, 1", ((2, 3), (1.0, 0.5))), ("3 2", "", ((2, 3), ())), ("", "", ((), ()))],
)
def test_segments_keep_the_weight_written_at_their_place(segments, segment_weights, kept):
    config = from_shown(PaveConfig, {"segments": segments, "segment_weights": segment_weights})
    assert (config.segments, config.segment_weights) == kept


def test_the_weights_of_the_terms():
    config = PaveConfig(segments=(2, 3), plain_weight=0.5, segment_weights=(1.0, 0.25))
    assert config.weights() == {1: 0.5, 2: 1.0, 3: 0.25}
    assert PaveConfig().weights() == {1: 1.0, 2: 1.0, 3: 1.0}
