"""Settings: what is said of each, that its range holds to the last number, and that widgets show a config whole."""

import math
from dataclasses import fields

import pytest

from pave_core.config.adapter import LoraConfig
from pave_core.config.fields import from_shown, parse_numbers, shown, widgets_of
from pave_core.config.memory import MemoryConfig
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.presets import MEMORY_PRESETS, PRESETS
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig
from pave_core.runs.settings import RunSettings

CLASSES = (RolloutConfig, PaveConfig, LoraConfig, OptimConfig, RunConfig, MemoryConfig, GuardConfig, RunSettings)
ALL = [(config, name) for config in CLASSES for name in widgets_of(config)]
OWN_CHECKS = {
    "branch_steps",
    "segments",
    "coarser_tails",
}
"""Lists of whole numbers, whose bounds depend on other settings."""
LISTS = {"segment_weights": "{}, 1", "step_weights": "{}, 1"}
"""Lists of numbers with a range, as they are written with one number in question."""
NUMBERS = [
    (config, name) for config, name in ALL if type(widgets_of(config)[name].default) in (int, float) or name in LISTS
]
OPTIONS = [(config, name) for config, name in ALL if widgets_of(config)[name].setting.options]
BESIDE = {"steps": {"branch_steps": "0"}, "contrast": {"group_size": 64}}
"""What has to be set with a setting for its whole range to be open."""


def made(config, name, value):
    """The config with one setting; of a list, its first number."""
    if name in LISTS:
        value = LISTS[name].format(repr(value))
    return from_shown(config, {name: value, **BESIDE.get(name, {})})


def outside(value, default, direction):
    """The next number beyond `value`: of whole numbers where the setting is one."""
    return value + int(math.copysign(1, direction)) if type(default) is int else math.nextafter(value, direction)


@pytest.mark.parametrize("config", CLASSES)
def test_every_field_of_a_config_is_a_setting(config):
    """RunSettings also holds what a caller decides."""
    shown_fields = {widget.field for widget in widgets_of(config).values()}
    assert {each.name for each in fields(config)} - shown_fields == (
        {"iterations", "guard"} if config is RunSettings else set()
    )


def test_no_two_settings_share_a_widget():
    names = [name for _, name in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("config", "name"), ALL)
def test_every_setting_has_a_help_text_and_every_number_a_range(config, name):
    widget = widgets_of(config)[name]
    assert widget.setting.help.endswith(".")
    if (config, name) in NUMBERS:
        assert widget.setting.low is not None
        assert widget.setting.high is not None
        assert widget.setting.low < widget.setting.high
        assert 0 < widget.setting.step <= widget.setting.high - widget.setting.low
    elif not isinstance(widget.default, bool) and name not in {"run_name", "resume"}:
        assert widget.setting.options or name in OWN_CHECKS


@pytest.mark.parametrize(("config", "name"), NUMBERS)
def test_both_ends_of_a_range_are_allowed(config, name):
    said = widgets_of(config)[name].setting
    for end in (said.low, said.high):
        value = shown(made(config, name, end))[name]
        assert value == (LISTS[name].format(f"{end:g}") if name in LISTS else end)


@pytest.mark.parametrize(("config", "name"), NUMBERS)
def test_just_outside_a_range_is_refused_by_name(config, name):
    widget = widgets_of(config)[name]
    low, high = (
        outside(end, widget.default, to)
        for end, to in ((widget.setting.low, -math.inf), (widget.setting.high, math.inf))
    )
    with pytest.raises(ConfigError, match=f"^{name}: {low} is below {widget.setting.low}"):
        made(config, name, low)
    with pytest.raises(ConfigError, match=f"^{name}: {high} is above {widget.setting.high}, the largest allowed"):
        made(config, name, high)
    for bad, message in ((math.nan, "is not a number"), (-math.inf, "is below"), (math.inf, "is above")):
        expected = "is not a whole number" if isinstance(widget.default, int) else message
        with pytest.raises(ConfigError, match=f"^{name}: {bad} {expected}"):
            made(config, name, float(bad))


@pytest.mark.parametrize(("config", "name"), NUMBERS)
def test_a_message_ends_with_the_remedy(config, name):
    said = widgets_of(config)[name].setting
    with pytest.raises(ConfigError) as caught:
        made(config, name, said.high * 2)
    assert str(caught.value).endswith(said.remedy or "the largest allowed")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RolloutConfig(steps=16.5), "steps: 16.5 is not a whole number"),
        (lambda: RolloutConfig(steps=True), "steps: True is not a whole number"),
        (lambda: RolloutConfig(branch_steps=(0, 1.0)), "branch_steps: 1.0 is not a whole number"),
        (lambda: RolloutConfig(eta=True), "eta: True is not a number"),
        (lambda: OptimConfig(learning_rate="nan"), "learning_rate: 'nan' is not a number"),
        (lambda: OptimConfig(betas=(0.9,)), r"betas: \(0.9,\) is not a pair of numbers"),
        (lambda: OptimConfig(betas=(0.9, 0.9, 0.9)), "betas: .* is not a pair of numbers"),
        (lambda: PaveConfig(segment_weights=("1", 1)), "segment_weights: '1' is not a number"),
        (lambda: RunSettings(name=3), "run_name: 3 is not a text"),
        (lambda: RunSettings(check_reward=1), "check_reward: 1 is not true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused(make, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


def test_shown_numbers_keep_their_digits():
    config = PaveConfig(segment_weights=(1 / 3, 1.0))
    assert shown(config)["segment_weights"] == "0.3333333333333333, 1"
    assert from_shown(PaveConfig, shown(config)) == config


@pytest.mark.parametrize(("config", "name"), OPTIONS)
def test_every_option_is_allowed_and_nothing_else(config, name):
    widget = widgets_of(config)[name]
    for option in widget.setting.options:
        assert getattr(made(config, name, option), widget.field) == option
    with pytest.raises(ConfigError, match=f"^{name}: 'none of them' is not known: choose one of "):
        made(config, name, "none of them")


@pytest.mark.parametrize(
    "config",
    [
        *(config() for config in CLASSES),
        *(
            pytest.param(getattr(preset, part), id=f"{name}-{part}")
            for name, preset in PRESETS.items()
            for part in ("rollout", "pave", "lora", "optim", "run")
        ),
        *(pytest.param(preset.memory(), id=name) for name, preset in MEMORY_PRESETS.items()),
        RolloutConfig(steps=3, branch_steps=(1,), group_size=2, eta=0.01, batch_size=256),
        PaveConfig(segments=(), advantage_clip=0.1),
        PaveConfig(segments=(5, 2, 3), plain_weight=0, segment_weights=(0.25, 1, 1e-3)),
        LoraConfig(rank=1, alpha=0.5, targets="all linear", init="kaiming"),
        OptimConfig(optimizer="SGD", schedule="linear", decay_steps=7, betas=(0.0, 0.99999), step="per_step"),
        RunConfig(iterations=1, prompts_per_step=64, seed=2**53 - 1),
        GuardConfig(every=1, action="lower learning rate", max_drop=0.0, max_drift=0.5, max_change=10),
        RunSettings(name="other", resume="pave_00001", evaluation_seeds=1, evaluate_every=5, check_reward=False),
    ],
    ids=lambda config: type(config).__name__,
)
def test_what_is_shown_is_the_whole_config(config):
    values = shown(config)
    assert values.keys() == widgets_of(type(config)).keys()
    assert all(isinstance(value, str | int | float) for value in values.values())
    assert from_shown(type(config), values) == config


@pytest.mark.parametrize("config", CLASSES)
def test_widgets_begin_with_the_defaults(config):
    assert {name: widget.default for name, widget in widgets_of(config).items()} == shown(config())
    assert from_shown(config, {}) == config()


def test_a_pair_is_two_widgets():
    assert shown(OptimConfig(betas=(0.5, 0.75)))["beta1"] == 0.5
    assert from_shown(OptimConfig, {"beta2": 0.75}).betas == (0.9, 0.75)
    with pytest.raises(ConfigError, match="^beta2: 1 is above 0.99999, the largest allowed: the paper uses 0.999"):
        OptimConfig(betas=(0.9, 1))


def test_fields_without_a_widget_are_given_beside():
    settings = from_shown(RunSettings, {"run_name": "a"}, iterations=7)
    assert (settings.name, settings.iterations) == ("a", 7)
    assert "iterations" not in shown(settings)


@pytest.mark.parametrize(
    ("text", "whole", "numbers"),
    [("0, 2, 4", True, (0, 2, 4)), ("0 2,4", True, (0, 2, 4)), (" ", True, ()), ("1, .5 1e-3", False, (1, 0.5, 1e-3))],
)
def test_a_list_of_numbers_is_parsed(text, whole, numbers):
    assert parse_numbers("list", text, whole=whole) == numbers


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (PaveConfig, {"segment_weights": "1, x"}, "segment_weights: '1, x' is not a list of numbers"),
        (PaveConfig, {"segments": "2, 3", "segment_weights": "1"}, "segment_weights: 1 with segments 2, 3"),
        (PaveConfig, {"segments": "2, x"}, "segments: '2, x' is not a list of whole numbers"),
        (RolloutConfig, {"branch_steps": "2, x"}, "branch_steps: '2, x' is not a list of whole numbers"),
        (RolloutConfig, {"branch_steps": "2.5"}, "branch_steps: '2.5' is not a list of whole numbers"),
        (RolloutConfig, {"branch_steps": ""}, "branch_steps: empty"),
    ],
)
def test_a_text_that_is_no_such_list_names_the_widget(config, values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        from_shown(config, values)
