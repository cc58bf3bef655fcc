"""A LoRA from a stranger: its recipe is a config in range or a ConfigError, and its text does nothing in a page."""

import copy
import json
import random
import re
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file

from _hostile import Case, alive, tried
from _training_graphs import composed, node
from pave_core.config.train import TrainConfig
from pave_core.errors import MAX_MESSAGE, ConfigError
from pave_core.policies.lora_file import RECIPE_KEY
from pave_core.runs.recipe import MAX_LINE, MAX_LINES, check_recipe, config_of, load_recipe, prompts_of, recipe_text

GOOD = {
    "pack": "0.3.0",
    "comfyui": "0.3.75",
    "method": "Pave-GRPO",
    "step": 3,
    "model": "abc",
    "config": TrainConfig().to_dict(),
    "sampling": {"width": 64, "height": 64, "scheduler": "simple", "sigmas": None, "cfg": 1.0},
    "reward": {"rewards": [{"name": "colour"}], "weights": [1.0], "normalise": "within group"},
    "judge": None,
    "guard": None,
    "prompts": ["a red circle on a dark background"],
    "held_out": ["a blue star on a light background"],
}
GONE = object()
DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE = [
    *((name, value) for name in ("config", "prompts", "held_out", "sampling") for value in (GONE, None, 3, "abc", [1])),
    *(("prompts", value) for value in ({}, [None], [["a"]], ["x" * 20_000_000], ["a"] * 1_000_000, [], ["\ud800"])),
    *(("held_out", value) for value in ([None], {}, ["x" * 6000], ["a\0b"])),
    *((f"sampling.{name}", GONE) for name in ("width", "height", "scheduler")),
    *((f"sampling.{side}", value) for side in ("width", "height") for value in ("64", None, 2**40, -64, 0, 64.5, [])),
    *(("sampling.scheduler", value) for value in (["simple"], "nothing", "\ud800", {}, 3, None, "x" * 1_000_000)),
    *(("sampling.sigmas", value) for value in ("1, 0", ["1", "0"], 3, [], [1.0], [[1.0], 0.0], [1.0, 2.0, 0.0], {})),
    *(("sampling.sigmas", value) for value in ([1.0] * 10**6, [float("nan"), 0.0], [float("inf"), 0.0], [True, False])),
    *(("sampling.frames", value) for value in (0, 10**9, "1", None)),
    *(("config.rollout.steps", value) for value in (3.5, 10**9, 10**400, "16", None, True, -1)),
    *(("config.rollout.branch_steps", value) for value in (0.5, [0.5], 3, "0, 1", [[0]], [0] * 10**6, None, [10**9])),
    *(("config.rollout.eta", value) for value in (1e300, float("nan"), "x", -1)),
    *(("config.rollout.group_size", value) for value in (10**9, 1, "12")),
    *(("config.pave.segments", value) for value in ([10**9], [[2]], list(range(2, 5000)), 3, "2, 3", [2.5], [True])),
    *(("config.lora.rank", value) for value in (True, 2.5, 10**9, 0, "8", None)),
    *(("config.lora.alpha", value) for value in (1e300, float("nan"), 0)),
    *(("config.lora.targets", value) for value in ({}, [], "x" * 1_000_000, None)),
    *(("config.optim.learning_rate", value) for value in (1e300, float("inf"), "1e-4", -1)),
    *(("config.optim.betas", value) for value in ([0.9] * 3, [0.9], 0.9, [[0.9], 0.9], ["0.9", 0.9], None)),
    *(("config.run.iterations", value) for value in (10**18, 0, 1.5)),
    ("config.unknown", 1),
    ("config.rollout.\ud800", 1),
    ("config.rollout.unknown", 1),
    ("config.rollout", [1]),
]
"""(what of a recipe, a value that makes no sense there)."""
RAW = {"deep": DEEP, "deep config": '{"config": ' + DEEP + "}", "empty": "", "null": "null", "number": "1" * 5000}
"""Recipes that are no recipe, as text."""


def recipe_with(path, value):
    recipe = copy.deepcopy(GOOD)
    *folders, leaf = path.split(".")
    place = recipe
    for folder in folders:
        place = place[folder]
    if value is GONE:
        place.pop(leaf, None)
    else:
        place[leaf] = value
    return recipe


def written(path, text):
    save_file({"a": torch.ones(1)}, path, metadata={RECIPE_KEY: text})
    return path


def test_a_good_recipe_is_read(tmp_path):
    recipe = load_recipe(written(tmp_path / "good.safetensors", json.dumps(GOOD)))
    assert recipe == json.loads(json.dumps(GOOD))
    assert config_of(recipe) == TrainConfig()
    assert prompts_of(recipe).train == ("a red circle on a dark background",)
    check_recipe(recipe, recipe)


@pytest.mark.parametrize("text", RAW.values(), ids=RAW)
def test_what_is_no_recipe_is_a_config_error(tmp_path, text):
    with pytest.raises(ConfigError, match=r"^lora: the recipe in x\.safetensors is damaged"):
        load_recipe(written(tmp_path / "x.safetensors", text))


@pytest.mark.parametrize("saved", [None, [], 3, "x", {}, {"config": None}, {"config": {"lora": {"rank": "8"}}}])
def test_a_checkpoint_with_another_kind_of_recipe_names_the_problem(saved):
    with pytest.raises(ConfigError, match="^resume: the recipe in the checkpoint is damaged"):
        check_recipe(saved, json.loads(json.dumps(GOOD)))


def deeply(levels):
    value = {}
    for _ in range(levels):
        value = {"config": value}
    return value


def test_a_recipe_of_any_depth_is_a_config_error():
    saved = dict(GOOD) | {"reward": deeply(5000)}
    with pytest.raises(ConfigError, match=r"^resume: the recipe in the checkpoint is damaged \(maximum recursion"):
        check_recipe(saved, GOOD)


LIVE = [
    "![x](http://203.0.113.9/a.png)",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "\\![x](http://203.0.113.9/a.png)",
    "\\\\[x](http://203.0.113.9/a)",
    "`</code><script>alert(1)</script>`",
    "a\n\n# b\n\n<iframe src=//203.0.113.9>",
    "a\x1b[31m\x07\x00\u202eb\r\n\u2028c",
    "\ud800",
]


def values_of(text):
    """The parts of a text that Markdown takes literally are taken out: what is left is alive."""
    return re.sub(r"\\[\\`<>\[\]]", "", text)


@pytest.mark.parametrize("text", LIVE)
@pytest.mark.parametrize("place", ["method", "pack", "comfyui", "step", "sampling.scheduler", "reward.name", "key"])
def test_the_text_of_a_recipe_does_nothing_in_a_page(text, place):
    recipe = copy.deepcopy(GOOD)
    if place == "key":
        recipe["reward"] = {text: [text, {text: text}]}
    elif "." in place:
        recipe[place.split(".")[0]] = {place.split(".")[1]: text}
    else:
        recipe[place] = text
    recipe["prompts"] = [text]
    shown = recipe_text(recipe)
    assert len(shown.splitlines()) == len(shown.split("\n"))
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
    shown.encode()
    assert not re.search(r"[<\[]", re.sub(r": \[[\d., ]*\]", "", values_of(shown)))


def test_the_text_of_a_recipe_is_bounded():
    huge = dict(GOOD) | {"method": "x" * 1_000_000, "prompts": ["y" * 5000] * 10_000}
    huge["reward"] = {str(i): deeply(300) for i in range(1000)}
    shown = recipe_text(huge)
    assert max(map(len, shown.splitlines())) <= 3 * MAX_LINE
    assert len(shown.splitlines()) < 12 * MAX_LINES
    assert f"  - and {10_000 - MAX_LINES} more" in shown


@pytest.fixture
def loras(server):
    """A folder of LoRAs that the server lists; they are removed afterwards."""
    folder = server.folder / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for file in folder.glob("hostile_*"):
        file.unlink()


def test_hostile_recipes_are_refused_before_a_training_begins(server, loras):
    """Through the real server: Pave LoRA Recipe gives a training its settings and prompts."""
    texts = {f"{path} {str(value)[:40]!a}": json.dumps(recipe_with(path, value)) for path, value in HOSTILE} | RAW
    names = {}
    for number, (what, text) in enumerate(texts.items()):
        names[what] = written(loras / f"hostile_{number:03}.safetensors", text).name
    counts, bad = Counter(), []
    for what, name in names.items():
        graph = composed(branch_steps="0", group_size=2) | {
            "recipe": node("PaveLoRARecipe", lora=name),
            "shown": node("PreviewAny", source=["recipe", 5]),
        }
        outcome = tried(server, Case("PaveLoRARecipe", "lora", name, graph, sensible=False))
        counts[outcome.kind] += 1
        if outcome.kind != "rejected, clear" or any(len(message) > MAX_MESSAGE + 60 for message in outcome.messages):
            bad.append(f"{what}: {outcome.kind} {[message[:200] for message in outcome.messages]}")
    print(f"\n{len(names)} recipes: {dict(counts)}")
    assert len(names) > 100
    assert not bad, "\n".join(bad)
    assert alive(server, 1)


FILES = {
    "empty": (b"", "there are none"),
    "10 MB": (b"a red circle\n" * 800_000, "are the most that is read: write one prompt per line"),
    "a million lines": (b"".join(b"%d\n" % i for i in range(500_000)), "are too many"),
    "one line of a megabyte": (b"x" * 1_000_000, "has 1000000 characters"),
    "UTF-16": ("a red circle".encode("utf-16"), "cannot be read as UTF-8"),
    "Latin-1": ("a caf\u00e9".encode("latin-1"), "cannot be read as UTF-8"),
    "mixed": ("a caf\u00e9\n".encode() + "a caf\u00e9\n".encode("latin-1"), "cannot be read as UTF-8"),
    "NUL": (b"a red\0circle\n", "holds NUL"),
    "surrogate": (b"a \xed\xa0\x80 circle\n", "cannot be read as UTF-8"),
    "random": (random.Random(0).randbytes(5000), "cannot be read as UTF-8"),
    "CRLF": (b"a red circle\r\n\r\n# no\r\na blue star\r\n", ""),
    "BOM": (b"\xef\xbb\xbfa red circle\na blue star\n", ""),
    "CR": (b"a red circle\ra blue star\r", ""),
    "emoji": ("a \U0001f98a in snow\n\u7ea2\u5706\n".encode(), ""),
    "U+2028": ("a red circle\u2028a blue star".encode(), ""),
}
"""{file: (its bytes, what the message says of it; "" where it is read)}."""


@pytest.mark.parametrize("name", FILES)
def test_files_of_prompts_are_read_or_refused_in_clear_words(server, name):
    data, message = FILES[name]
    folder = server.folder / "input"
    for old in folder.glob("hostile*.txt"):
        old.unlink()
    (folder / "hostile.txt").write_bytes(data)
    prompts = node("PavePrompts", text="", file="hostile.txt", held_out=0.0, seed=0)
    graph = {"prompts": prompts, "shown": node("PreviewAny", source=["prompts", 0])}
    outcome = tried(server, Case("PavePrompts", "file", name, graph, sensible=True))
    (folder / "hostile.txt").unlink()
    if message:
        assert outcome.kind in ("rejected, clear", "rejected for another reason")
        assert message in outcome.messages[0]
        assert len(outcome.messages[0]) < MAX_MESSAGE
    else:
        assert outcome.kind == "accepted"
