"""The entry point for other packs."""

import subprocess
import sys

import pytest
import torch

import pave_core.rewards
from pave_core.errors import ConfigError
from pave_core.rewards import registry


class Redness:
    name = "redness"

    def __call__(self, images, prompts):
        return images[..., 0].mean((1, 2))


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(registry, "_entries", {})


def test_what_is_registered_is_listed_in_order_and_made_anew_for_each_graph():
    pave_core.rewards.register("b", Redness, "likes red")
    pave_core.rewards.register("a", lambda: Redness())
    assert registry.registered() == {"b": "likes red", "a": ""}
    assert list(registry.registered()) == ["b", "a"]
    first, second = registry.make("b"), registry.make("b")
    assert first is not second
    assert first(torch.ones(2, 4, 4, 3), ["x", "y"]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("", Redness), "name"),
        (("  ", Redness), "name"),
        ((None, Redness), "name"),
        ((7, Redness), "name"),
        ((["red"], Redness), "name"),
        (("taken", Redness), "name"),
        (("red", Redness.name), "factory"),
        (("red", None), "factory"),
        (("red", Redness, None), "description"),
        (("red", Redness, 5), "description"),
    ],
)
def test_bad_registrations_are_refused_and_leave_nothing_behind(arguments, field):
    registry.register("taken", Redness)
    with pytest.raises(ConfigError, match=rf"^{field}: .*: .+"):
        registry.register(*arguments)
    assert list(registry.registered()) == ["taken"]


def fails():
    raise FileNotFoundError("no weights")


def refuses():
    raise ConfigError("weights: put them there")


class Nameless:
    def __call__(self, images, prompts):
        return images


class Silent:
    name = "silent"


class NamedByNumber(Redness):
    name = 3


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (fails, r"'it' could not be made by its pack \(FileNotFoundError: no weights\): tell"),
        (lambda x: x, r"'it' could not be made by its pack \(TypeError: .*\): tell"),
        (refuses, "^weights: put them there$"),
        (lambda: None, "has no name or cannot be called: tell"),
        (Nameless, "has no name or cannot be called: tell"),
        (Silent, "has no name or cannot be called: tell"),
        (NamedByNumber, "has no name or cannot be called: tell"),
    ],
)
def test_a_factory_that_fails_is_said_with_its_name(factory, message):
    registry.register("it", factory)
    with pytest.raises(ConfigError, match=message):
        registry.make("it")


def test_a_reward_of_a_pack_that_is_gone_is_refused():
    with pytest.raises(ConfigError, match="'gone' is not registered: install or update the pack"):
        registry.make("gone")


def test_register_is_cheap_to_import():
    """Other packs import it while the host starts."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from _host.package import load_core
load_core()
from pave_core.rewards import register
heavy = {"open_clip", "transformers", "rapidocr", "onnxruntime", "torchvision", "peft", "matplotlib"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    tools = sys.modules["_host.package"].__file__.rpartition("_host")[0]
    done = subprocess.run([sys.executable, "-c", code, tools], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
