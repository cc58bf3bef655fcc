"""The settings of a run, together."""

import json

import pytest

from pave_core.config.optimizer import OptimConfig
from pave_core.config.presets import PRESETS
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.errors import ConfigError


def cosine(decay_steps, iterations, step="accumulated"):
    """A run with that many iterations and a schedule that falls to 0."""
    return TrainConfig(
        optim=OptimConfig(schedule="cosine", decay_steps=decay_steps, step=step), run=RunConfig(iterations=iterations)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunConfig(iterations=0), "iterations: 0 is below 1"),
        (lambda: RunConfig(seed=-1), "seed: -1 is below 0: use 0 or more"),
        (lambda: cosine(20, 21), "decay_steps: 20 is below the 21 optimizer steps"),
        (lambda: cosine(79, 20, "per_step"), "decay_steps: 79 is below the 80 optimizer steps"),
        (lambda: TrainConfig.from_dict({"rollout": {"stepz": 3}}), "config.rollout.stepz: not a known setting"),
        (lambda: TrainConfig.from_dict({"rollouts": {}}), "config.rollouts: not a known setting"),
        (lambda: TrainConfig.from_dict({"rollout": {"eta": 0}}), "eta: 0 is below"),
    ],
)
def test_bad_settings_name_the_field_and_the_value(make, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


def test_a_schedule_may_end_with_the_run():
    assert cosine(20, 20).optim.decay_steps == 20
    assert cosine(80, 20, "per_step").optim.decay_steps == 80


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_json(name):
    assert TrainConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_what_an_older_version_did_not_write_takes_its_default():
    assert TrainConfig.from_dict({}) == TrainConfig()
    assert TrainConfig.from_dict({"rollout": {"eta": 0.5}}).rollout.steps == 16


@pytest.mark.parametrize("values", [3, [1], "x", None])
def test_a_part_that_is_no_group_of_settings_is_refused(values):
    with pytest.raises(ConfigError, match="^config.rollout: .* is not a group of settings"):
        TrainConfig.from_dict({"rollout": values})
