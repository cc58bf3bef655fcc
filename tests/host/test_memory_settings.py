"""The settings of memory on their way from Pave Memory into a run."""

import logging
import sys
from types import SimpleNamespace

import pytest

SETTINGS = {"checkpointing": "on", "recompute_chains": True, "decode_batch": 2, "offload": 0.5}


@pytest.fixture
def nodes(host, pack):
    return host.nodes.NODE_CLASS_MAPPINGS


@pytest.fixture
def memory(nodes):
    """What Pave Memory gives for SETTINGS."""
    return nodes["PaveMemory"].execute(preset="custom", **SETTINGS).result[0]


def test_the_node_gives_what_its_fields_say_whatever_the_preset(nodes, memory, caplog):
    assert vars(memory) == SETTINGS
    with caplog.at_level(logging.INFO, "pave"):
        again = nodes["PaveMemory"].execute(preset="12 GB", **SETTINGS).result[0]
    assert again == memory
    changes = "decode_batch 2 instead of 1, recompute_chains True instead of False"
    assert set(caplog.messages[-1].removeprefix("Pave-GRPO: preset 12 GB was changed: ").split(", ")) == set(
        changes.split(", ")
    )


def test_a_wrong_value_names_the_field(nodes, modules):
    with pytest.raises(modules.errors.ConfigError, match=r"^offload: 1.5 is above 1.0"):
        nodes["PaveMemory"].execute(preset="custom", **SETTINGS | {"offload": 1.5})
    with pytest.raises(modules.errors.ConfigError, match=r"^preset: '4 GB' is not known: choose one of custom, 8 GB"):
        nodes["PaveMemory"].execute(preset="4 GB", **SETTINGS)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("kind", ["PaveTrain", "PaveTrainAdvanced"])
def test_a_training_node_trains_with_them(nodes, modules, memory, monkeypatch, stock, kind, connected):
    """A node without the input, as graphs of 0.3.0 have it, trains with the defaults."""
    node, seen = nodes[kind], []
    module = sys.modules[node.__module__]
    monkeypatch.setattr(module, "run_training", lambda policy, rollout, task, _: seen.append(task.config.memory))
    monkeypatch.setattr(module, "_wrap", lambda _: None)
    monkeypatch.setattr(node, "hidden", SimpleNamespace(unique_id=None))
    schema = node.INPUT_TYPES()
    widgets = {**schema["required"], **schema["optional"]}
    values = {name: spec[1]["default"] for name, spec in widgets.items() if "default" in spec[1]}
    lora = modules.config.LoraConfig(rank=2, alpha=4)
    policy = modules.policy.PolicySettings(stock.model, stock.clip, stock.vae, lora)
    prompts = modules.prompts.PromptSet(("a red circle on a dark background",), ())
    parts = {"model": stock.model, "clip": stock.clip, "vae": stock.vae} if kind == "PaveTrain" else {"policy": policy}
    wires = parts | {"prompts": prompts, "reward": modules.colour.ColourReward(1.0, 0.5, 0.0)}
    node.execute(**values | wires | ({"memory": memory} if connected else {}))
    assert seen == [memory if connected else type(memory)()]


def test_the_socket_is_optional_on_all_three(nodes):
    for name in ("PaveTrain", "PaveTrainAdvanced", "PaveBegin"):
        assert nodes[name].INPUT_TYPES()["optional"]["memory"][0] == "PAVE_MEMORY_SETTINGS"
