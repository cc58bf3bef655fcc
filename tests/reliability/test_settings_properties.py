"""Every field of every config, with any JSON value: a config inside the declared range, or a ConfigError that names the
field.
"""

import json
import math
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pave_core.config.adapter import LoraConfig
from pave_core.config.fields import check_text, from_shown, joined, parse_numbers, shown, widgets_of
from pave_core.config.memory import MemoryConfig
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.presets import MEMORY_PRESETS, PRESETS, preset_config
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.errors import MAX_MESSAGE, ConfigError
from pave_core.evaluation.guard import GuardConfig
from pave_core.files import safe_name
from pave_core.rollout.prompts import MAX_PROMPT, MAX_PROMPTS, PromptSet, parse_prompts, split_prompts
from pave_core.runs.settings import RunSettings

CONFIGS = (RolloutConfig, PaveConfig, LoraConfig, OptimConfig, RunConfig, MemoryConfig, GuardConfig, RunSettings)
WIDGETS = [(config, name) for config in CONFIGS for name in widgets_of(config)]
PARTS = {"rollout": RolloutConfig, "pave": PaveConfig, "lora": LoraConfig, "optim": OptimConfig, "run": RunConfig}
EXAMPLES = 40

numbers = st.one_of(
    st.integers(-3, 300), st.integers(), st.just(10**400), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf])
)
texts = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cs", "Cc"])),  # lone surrogates and control characters
    st.lists(numbers, max_size=4).map(lambda values: ", ".join(map(repr, values))),
    st.sampled_from(["1e999", "9" * 5000, "x" * 100_000, "nan", "2, 2", "0 1 2", "\0", "\ud800"]),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
patient = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def tried(make):
    """(what it makes, "") or (None, the message of its ConfigError, which a log can hold)."""
    try:
        return make(), ""
    except ConfigError as error:
        message = str(error)
    assert len(message) <= MAX_MESSAGE
    message.encode()
    return None, message


def in_range(config) -> None:
    """Assert that every setting of a config is of its declared kind and in its declared range: the oracle."""
    for name, widget in widgets_of(type(config)).items():
        said, value = widget.setting, widget.of(config)
        parts = value if isinstance(value, tuple) else (value,)
        assert not isinstance(value, tuple) or len(parts) <= said.most
        for part in parts:
            assert isinstance(part, (int, float) if widget.kind is float else widget.kind), name
            assert isinstance(part, bool) == (widget.kind is bool), name
            if widget.kind in (int, float):
                assert math.isfinite(part), name
                assert said.low is None or part >= said.low, name
                assert said.high is None or part <= said.high, name
        assert not said.options or value in said.options


@pytest.mark.parametrize(("config", "name"), WIDGETS)
@patient
@given(value=anything)
def test_a_widget_takes_what_is_in_its_range_or_names_itself(config, name, value):
    made, message = tried(lambda: from_shown(config, {name: value}))
    if made is not None:
        in_range(made)
        assert from_shown(config, shown(made)) == made
        return
    about = {name, widgets_of(config)[name].field} | ({"decay_steps"} if name == "schedule" else set())
    about |= {"branch_steps"} if name in ("steps", "window_every", "window_stride") else set()
    about |= {"window_stride", "contrast", "kernel"} if config is RolloutConfig else set()
    about |= {"plain_weight", "segment_weights", "segments"} if config is PaveConfig else set()
    assert message.split(":")[0] in about


@pytest.mark.parametrize("config", CONFIGS)
@patient
@given(data=st.data())
def test_a_field_takes_what_is_in_its_range_or_is_a_config_error(config, data):
    each = data.draw(st.sampled_from([field.name for field in fields(config) if field.metadata]))
    value = data.draw(st.one_of(anything, st.lists(numbers, max_size=70).map(tuple), st.tuples(numbers, numbers)))
    made, _ = tried(lambda: config(**{each: value}))
    if made is not None:
        in_range(made)


@settings(max_examples=5 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.one_of(
        anything,
        st.dictionaries(
            st.sampled_from([*PARTS, "memory", "unknown"]),
            st.one_of(
                anything,
                *(
                    st.dictionaries(st.sampled_from([field.name for field in fields(part)]), anything, max_size=3)
                    for part in PARTS.values()
                ),
            ),
        ),
    )
)
@example({"optim": {"betas": [0.9, 0.9, 0.9]}})
@example({"lora": {"rank": True}})
@example({"lora": {"rank": 2.5}})
@example({"pave": {"segments": [[2], 3]}})
@example({"pave": {"segments": [10**9]}})
@example({"pave": {"segments": list(range(2, 1000))}})
@example({"rollout": {"steps": 10**18}})
def test_a_recipe_of_any_json_is_a_config_or_a_config_error(values):
    config, _ = tried(lambda: TrainConfig.from_dict(values))
    if config is None:
        return
    for part in vars(config).values():
        in_range(part)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@patient
@given(values=st.lists(st.one_of(st.integers(-100, 100), st.floats(allow_nan=False)), max_size=8))
def test_numbers_as_text_are_read_back(values):
    assert parse_numbers("x", joined(tuple(values)), whole=False) == tuple(map(float, values))


@patient
@given(name=anything)
def test_a_name_is_a_plain_file_name_or_a_config_error(name):
    plain, message = tried(lambda: safe_name("run_name", name))
    if plain is None:
        assert message.startswith("run_name: ")
    else:
        assert plain == plain.strip()
        assert not {"/", "\\", ":", "\0"} & set(plain)
        assert plain.strip(".")


DEVICES = ["CON", "con", "PRN", "aux", "NUL", "nul.txt", "COM1", "com9.safetensors", "LPT1", "Lpt0"]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_of_windows_is_no_name(name):
    with pytest.raises(ConfigError, match="^run_name: .* is a device on Windows"):
        safe_name("run_name", name)


@pytest.mark.parametrize("name", ["console", "con1", "null", "COM", "COM10", "auxiliary", "lpt"])
def test_what_only_begins_like_one_is_a_name(name):
    assert safe_name("run_name", name) == name


@pytest.mark.parametrize("name", [*PRESETS, *MEMORY_PRESETS, None, {}, [], 3, True, "\ud800", "x" * 1_000_000])
def test_a_preset_is_known_or_a_config_error(name):
    config, message = tried(lambda: preset_config(name))
    assert isinstance(config, TrainConfig) or message.startswith("preset: ")


@patient
@given(text=st.one_of(texts, st.text(st.sampled_from("a#\n\r\x0b\x85\u2028 \ufeff\0\ud800"))))
def test_prompts_of_any_text_are_held_to_their_limits(text):
    found, message = tried(lambda: split_prompts(parse_prompts(text), 0.2, 0))
    if found is None:
        assert message.startswith("prompts: ")
        return
    assert isinstance(found, PromptSet)
    for prompt in (*found.train, *found.held_out):
        assert prompt == prompt.strip() != ""
        assert len(prompt) <= MAX_PROMPT
        check_text("prompt", prompt, MAX_PROMPT)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["x" * 1_000_000], "has 1000000 characters"),
        ([f"{i}" for i in range(MAX_PROMPTS + 1)], "are too many"),
        (["a\ud800"], "no file can hold"),
        (["a\0b"], "no file can hold"),
        ([["a"]], "is not a text"),
    ],
)
def test_prompts_beyond_the_limits_are_refused(prompts, message):
    with pytest.raises(ConfigError, match=f"^prompts: .*{message}"):
        PromptSet(tuple(prompts), ())
