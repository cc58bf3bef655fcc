"""Recipes: what is in them, what may differ where a run goes on, and how they are read from a LoRA."""

import json

import pytest
import torch
from safetensors.torch import save_file

from _toy import PROMPTS, Negative, Redness, drive, toy_config
from pave_core import __version__
from pave_core.config.train import TrainConfig
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.policies.lora_file import RECIPE_KEY
from pave_core.rollout.prompts import PromptSet
from pave_core.runs.recipe import FREE, SCORED_BY_NODES, VERSIONS, check_recipe, load_recipe, recipe_text


def test_a_recipe_holds_all_that_a_run_was_asked(begin):
    guard = GuardSettings(GuardConfig(every=3), Negative())
    recipe = begin(prompts=PromptSet(PROMPTS[:2], PROMPTS[2:]), judge=Redness(), guard=guard).recipe()
    json.dumps(recipe)
    assert recipe["pack"] == __version__
    assert recipe["model"] == "toy"
    assert TrainConfig.from_dict(recipe["config"]) == toy_config()
    assert recipe["reward"] == {"rewards": [{"name": "brightness"}], "weights": [1.0], "normalise": "within group"}
    assert recipe["judge"] == {"name": "redness"}
    assert (recipe["guard"]["every"], recipe["guard"]["held_out"]) == (3, {"name": "negative"})
    assert (recipe["prompts"], recipe["held_out"]) == (list(PROMPTS[:2]), list(PROMPTS[2:]))
    assert recipe["sampling"] == {"shift": 3.0}  # what the policy says of itself


def test_a_recipe_says_where_there_is_no_reward_judge_or_guard(begin):
    recipe = begin(reward=None).recipe()
    assert (recipe["reward"], recipe["judge"], recipe["guard"]) == (SCORED_BY_NODES, None, None)


def recipe_of(config=None, **others):
    return {"config": (config or toy_config()).to_dict(), "model": "a"} | others


def test_a_checkpoint_of_another_recipe_names_the_setting():
    saved = {"config": {"rollout": {"eta": 0.8}, "run": {"iterations": 5}}, "model": "a"}
    check_recipe(saved, recipe_of(TrainConfig.from_dict({"rollout": {"eta": 0.8}, "run": {"iterations": 9}})))
    with pytest.raises(ConfigError, match=r"config.rollout.eta: the checkpoint was made with 0.8, now it is 0.7"):
        check_recipe(saved, recipe_of(TrainConfig.from_dict({"rollout": {"eta": 0.7}, "run": {"iterations": 5}})))
    with pytest.raises(ConfigError, match="model: .* another base model"):
        check_recipe(saved, recipe_of(TrainConfig.from_dict(saved["config"]), model="b"))


def changed(path, value):
    """The recipe of the toy settings with the value at a dotted path."""
    recipe = json.loads(json.dumps(recipe_of()))
    *folders, leaf = path.split(".")
    place = recipe
    for folder in folders:
        place = place[folder]
    place[leaf] = value
    return recipe


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.run.iterations", 99),
        ("config.run.checkpoint_every", 99),
        ("config.rollout.batch_size", 99),
        ("pack", "0.0.1"),
        ("comfyui", "9.9.9"),
    ],
)
def test_what_does_not_change_a_step_may_differ(path, value):
    assert path.split(".")[-1] in (*FREE, *VERSIONS)
    check_recipe(recipe_of(), changed(path, value))
    check_recipe(changed(path, value), recipe_of())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.run.seed", 4),
        ("config.run.prompts_per_step", 1),
        ("config.rollout.branch_steps", [0, 1]),
        ("config.pave.segment_weights", [1.0, 0.5]),
        ("config.optim.betas", [0.8, 0.999]),
        ("config.lora.alpha", 8),
        ("sampling", {"cfg": 2.0}),
        ("prompts", ["a cat"]),
    ],
)
def test_everything_else_may_not(path, value):
    message = f"^{path}.*: the checkpoint was made with .*: set it back, or set resume to none"
    with pytest.raises(ConfigError, match=message):
        check_recipe(recipe_of(), changed(path, value))
    with pytest.raises(ConfigError, match=message):
        check_recipe(changed(path, value), recipe_of())


def test_every_setting_of_the_run_is_either_free_or_compared():
    """Each is changed in turn; none is overlooked."""
    for part, settings in toy_config().to_dict().items():
        for name in settings:
            other = changed(f"config.{part}.{name}", "something else")
            if name in FREE or part in FREE:
                check_recipe(recipe_of(), other)
            else:
                with pytest.raises(ConfigError, match=rf"^config\.{part}\.{name}: "):
                    check_recipe(recipe_of(), other)


def test_a_setting_that_an_older_version_did_not_have_is_its_default():
    old = changed("config.rollout.eta", 0.8)
    del old["config"]["pave"]["plain_weight"], old["config"]["optim"]["schedule"]
    check_recipe(old, recipe_of())
    message = r"config\.pave\.plain_weight: the checkpoint was made with 1\.0, now it is 0\.5"
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_recipe(old, changed("config.pave.plain_weight", 0.5))


def test_tuples_and_lists_are_the_same():
    check_recipe(recipe_of(a=(1, 2)), recipe_of(a=[1, 2]))


def test_the_recipe_of_a_run_is_read_from_its_lora(begin, places):
    run = begin(toy_config(iterations=2))
    drive(run)
    outcome = run.finish()
    recipe = load_recipe(places.lora(run.folder.name))
    assert recipe == json.loads(json.dumps(outcome.lora.recipe))
    assert recipe["step"] == 2


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "holds no recipe"),
        ({"format": "pt"}, "holds no recipe"),
        ({RECIPE_KEY: "{"}, "is damaged or of a newer version"),
        ({RECIPE_KEY: "{}"}, "is damaged or of a newer version"),
        ({RECIPE_KEY: "[]"}, "is damaged or of a newer version"),
        ({RECIPE_KEY: '{"config": {"rollout": {"zeta": 1}}}'}, "is damaged or of a newer version .*zeta"),
        ({RECIPE_KEY: '{"config": {"rollout": 3}}'}, "is damaged or of a newer version"),
    ],
)
def test_a_lora_without_a_recipe_is_refused_by_name(tmp_path, metadata, message):
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(ConfigError, match=f"^lora: .*other.safetensors {message}"):
        load_recipe(tmp_path / "other.safetensors")


def test_what_is_no_lora_is_refused_by_name(tmp_path):
    (tmp_path / "other.safetensors").write_bytes(b"garbage")
    for name, why in (("other", "cannot be read as safetensors"), ("absent", "does not exist, or is no plain file")):
        with pytest.raises(ConfigError, match=f"^lora: {name}.safetensors {why}"):
            load_recipe(tmp_path / f"{name}.safetensors")


def test_a_recipe_in_words_has_a_line_a_setting():
    recipe = {
        "method": "M",
        "step": 3,
        "pack": "1.0",
        "config": {"rollout": {"eta": 0.8, "branch_steps": [0, 2]}},
        "judge": None,
        "prompts": ["a cat", "a dog"],
        "model": "left out",
    }
    assert recipe_text(recipe).splitlines() == [
        "- M, 3 steps, pack 1.0, ComfyUI ?",
        "- config",
        "  - rollout",
        "    - eta: 0.8",
        "    - branch_steps: [0, 2]",
        "- sampling: null",
        "- reward: null",
        "- judge: null",
        "- prompts",
        "  - a cat",
        "  - a dog",
        "- held_out: null",
    ]
