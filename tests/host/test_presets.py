"""Presets on their way into a run, and settings that exclude each other, refused before anything runs."""

import logging
import sys
from types import SimpleNamespace

import pytest

from _host.client import PromptError
from _training_graphs import SETTINGS, choosing, composed, looped, node, trained, with_settings
from pave_core.config.presets import PRESETS, RENAMED, changes
from pave_core.config.train import TrainConfig

RELEASED = "pave (released code)"


@pytest.fixture
def nodes(host, pack):
    return host.nodes.NODE_CLASS_MAPPINGS


def as_dict(config):
    """The settings; the host has its own copy of the pack's classes."""
    return config.to_dict() if hasattr(config, "to_dict") else vars(config)


@pytest.fixture
def config_of(nodes, stock, modules, monkeypatch):
    """config_of(preset, **widgets): the config that Pave Train trains with; all other widgets are at their defaults."""
    train, seen = nodes["PaveTrain"], []
    module = sys.modules[train.__module__]
    monkeypatch.setattr(module, "run_training", lambda policy, rollout, task, _: seen.append((rollout, task.config)))
    monkeypatch.setattr(module, "_wrap", lambda _: None)
    monkeypatch.setattr(train, "hidden", SimpleNamespace(unique_id=None))
    inputs = train.INPUT_TYPES()
    widgets = {**inputs["required"], **inputs["optional"]}
    defaults = {name: spec[1]["default"] for name, spec in widgets.items() if "default" in spec[1]}
    prompts = modules.prompts.PromptSet(("a red circle on a dark background",), ())
    wires = {"model": stock.model, "clip": stock.clip, "vae": stock.vae, "prompts": prompts}
    wires["reward"] = modules.colour.ColourReward(1.0, 0.5, 0.0)

    def made(preset, **values):
        train.execute(**defaults | wires | {"preset": preset} | values)
        rollout, config = seen.pop()
        assert rollout.config == config.rollout
        return TrainConfig.from_dict(as_dict(config))

    return made


@pytest.fixture
def filled(modules):
    """filled(preset): {widget: value} that it fills into Pave Train."""
    return modules.module("nodes.shared.presets").preset_widgets()["PaveTrain"].__getitem__


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_with_its_own_config(config_of, filled, name):
    assert config_of(name, **filled(name)) == PRESETS[name]


def test_what_the_fields_say_goes_over_a_preset_and_what_they_do_not_is_the_preset_s(config_of, filled, caplog):
    with caplog.at_level(logging.INFO, "pave"):
        config = config_of("dance-grpo", **filled("dance-grpo") | {"steps": 20, "seed": 4})
    assert changes(config, PRESETS["dance-grpo"]) == {"steps": (20, 16), "seed": (4, 0)}
    assert "Pave-GRPO: preset dance-grpo was changed: steps 20 instead of 16" in caplog.messages


def test_without_a_preset_the_rest_is_the_default(config_of, filled):
    config = config_of("custom", **filled("dance-grpo"))
    assert (config.rollout.kernel, config.rollout.exploration) == ("mar", "branches")
    assert config.rollout.branch_steps == PRESETS["dance-grpo"].rollout.branch_steps


@pytest.mark.parametrize("old", RENAMED)
def test_an_older_name_means_the_new_one(config_of, filled, old):
    assert config_of(old, **filled(RENAMED[old])) == PRESETS[RENAMED[old]]


def test_an_unknown_preset_is_refused(config_of, modules):
    with pytest.raises(modules.errors.ConfigError, match="^preset: 'papers' is not known: choose one of custom, pave"):
        config_of("papers")


@pytest.mark.parametrize(
    ("kind", "part", "old", "new"),
    [
        (
            "PaveRolloutSettings",
            "rollout",
            {"steps": 25, "branch_steps": "0, 1", "group_size": 3, "eta": 0.7, "batch_size": 2}
            | {"width": 64, "height": 64, "scheduler": "simple"},
            {"window_every": 25, "exploration": "trajectories, one noise"},
        ),
        (
            "PaveObjective",
            "pave",
            {"segments": "2", "advantage_clip": 4.0, "plain_weight": 1.0, "segment_weights": ""},
            {"ratio": "clip", "updates_per_rollout": 4},
        ),
        (
            "PaveOptimizer",
            "optim",
            {"optimizer": "Adam", "learning_rate": 0.5, "schedule": "constant", "decay_steps": 0, "warmup_steps": 1}
            | {"weight_decay": 0.0, "beta1": 0.5, "beta2": 0.5, "max_grad_norm": 2.0, "optimizer_step": "per_step"},
            {"ema_decay": 0.0},
        ),
    ],
)
def test_a_settings_node_without_later_inputs_has_their_defaults_or_its_preset_s(nodes, kind, part, old, new):
    """`old`: all widgets that 0.3.0 had."""

    def made(**values):
        config = nodes[kind].execute(**old | values).result[0]
        return vars(config.config if kind == "PaveRolloutSettings" else config)

    defaults, preset = vars(getattr(TrainConfig(), part)), vars(getattr(PRESETS["mix-grpo"], part))
    for name in new:
        assert made()[name] == defaults[name]
        assert made(preset="mix-grpo")[name] == preset[name] == new[name]
    fields = {key: value for key, value in made(preset="mix-grpo").items() if key in old and key != "optimizer_step"}
    assert fields == {key: made()[key] for key in fields}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollout": {"kernel": "cps", "eta": 1.2}}, r"PaveRolloutSettings .*kernel: cps with eta 1\.2: its noise"),
        ({"rollout": {"contrast": 2, "group_size": 2}}, "contrast: 2 with group_size 2: nothing would be left out"),
        ({"rollout": {"contrast": 1}}, "PaveRolloutSettings .*contrast: 1 is odd"),
        ({"objective": {"plain_weight": 0.0, "segments": ""}}, "PaveObjective .*plain_weight: 0 with segments empty"),
        ({"objective": {"ratio": "clip"}}, "PaveTrainAdvanced .*ratio: clip with updates_per_rollout 1"),
        ({"objective": {"step_weights": "1"}}, "PaveTrainAdvanced .*step_weights: 1 with branch_steps 0, 1: a weight"),
        (
            {"objective": {"updates_per_rollout": 2}, "optimizer": {"optimizer_step": "per_step"}},
            "PaveTrainAdvanced .*optimizer_step: per_step with updates_per_rollout 2: per_step makes",
        ),
        ({"rollout": {"candidates": 1}}, "PaveTrainAdvanced .*candidates: 1 with prompts_per_step 2: a step's prompts"),
        ({"optimizer": {"schedule": "linear", "decay_steps": 2}}, "PaveTrainAdvanced .*decay_steps: 2 is below the 3"),
        ({"rollout": {"preset": "no such"}}, "preset: 'no such' (is not known|not in)"),
    ],
)
def test_settings_on_wires_that_exclude_each_other_are_refused_when_they_are_queued(client, settings, message):
    with pytest.raises(PromptError, match=message):
        client.queue(with_settings(trained("refused"), **settings))


def test_a_preflight_of_settings_that_exclude_each_other_is_refused_when_it_is_queued(client):
    graph = with_settings(composed(), objective={"ratio": "clip"})
    graph["check"] = node("PavePreflight", **SETTINGS, card=0.0, prompts_per_step=1)
    with pytest.raises(PromptError, match=r"PavePreflight .*ratio: clip with updates_per_rollout 1"):
        client.queue(graph)


def test_what_comes_over_a_wire_from_elsewhere_is_refused_when_the_node_runs(client):
    graph = with_settings(trained("late"), objective={"ratio": "clip", "updates_per_rollout": ["count", 0]})
    graph["count"] = node("PrimitiveInt", value=1)
    with pytest.raises(PromptError, match=r"PaveTrainAdvanced \(node .*\): ratio: clip with updates_per_rollout 1"):
        client.run(graph, timeout=120)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            with_settings(looped("drawn"), optimizer={"optimizer_step": "per_step"}),
            "PaveBegin .*optimizer_step: per_step cannot be built from step nodes",
        ),
        (with_settings(looped("drawn"), rollout={"candidates": 2}), "PaveBegin .*candidates: the prompts of this step"),
        (choosing(looped("drawn")), "PaveBegin .*candidates: there is no choice to make"),
        (with_settings(looped("drawn"), rollout={"contrast": 2}), "PaveBegin .*contrast: the groups have not been"),
    ],
)
def test_a_drawn_loop_that_does_not_do_what_its_settings_say_is_refused_when_it_is_queued(client, graph, message):
    with pytest.raises(PromptError, match=message):
        client.queue(graph)
