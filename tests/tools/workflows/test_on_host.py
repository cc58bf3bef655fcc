"""Nodes, slots and links against the nodes of a host."""

import pytest

from _small_workflow import HOST, Changes, Workflow, at, connect, cut, insert, node
from validate_workflow import problems

CHANGES = Changes()


def test_a_sound_workflow_has_no_problem_and_its_missing_model_is_a_note(sound):
    report = problems(sound, HOST)
    assert report.problems == ()
    assert report.notes == ("node 2 needs the file t5/absent.safetensors for CLIPLoader.clip_name",)


@CHANGES.harmless
def a_reroute_passes_the_link_on(w: Workflow):
    insert(w, node(20, "Reroute", ":*", ":MODEL", None), "", 5, "model")


@CHANGES.harmless
def a_bypassed_node_passes_the_input_that_fits_and_is_not_looked_at(w: Workflow):
    insert(w, node(20, "No such node", "clip:CLIP model:MODEL", "MODEL:MODEL", [1, 2, 3], mode=4), "model", 5, "model")


@CHANGES.harmless
def a_bypassed_node_passes_the_input_in_the_place_of_the_output(w: Workflow):
    w["nodes"].append(node(20, "No such node", "one:MODEL two:MODEL", "one:MODEL two:MODEL", [], mode=4))
    connect(w, 1, 0, 20, "two")
    cut(w, 5, "model")
    connect(w, 20, 1, 5, "model")


@CHANGES.harmless
def a_muted_node_is_not_looked_at(w: Workflow):
    w["nodes"].append(node(20, "No such node", "x:IMAGE", "", [1], mode=2))


@CHANGES.harmless
def an_optional_input_may_come_from_a_muted_node(w: Workflow):
    w["nodes"].append(node(20, "Trainer", "", "lora:LORA_MODEL reward:FLOAT", [], mode=2))
    connect(w, 20, 1, 6, "scale")


@CHANGES.harmless
def one_type_of_a_union(w: Workflow):
    w["nodes"].append(node(20, "Trainer", "model:MODEL", "lora:LORA_MODEL reward:FLOAT", ["paper", 12, 3, True, ""]))
    connect(w, 1, 0, 20, "model")
    connect(w, 20, 1, 6, "scale")


@CHANGES.gives("node 20 FancySampler: the host has no such node")
def a_type_that_the_host_does_not_have(w: Workflow):
    w["nodes"].append(node(20, "FancySampler", "", "IMAGE:IMAGE", []))
    cut(w, 10, "source")
    connect(w, 20, 0, 10, "source")


@CHANGES.gives("node 3 CLIPTextEncode: the host's node has no input 'mask'")
def an_input_that_the_host_does_not_have(w: Workflow):
    at(w, 3)["inputs"].append({"name": "mask", "type": "MASK", "link": None})


@CHANGES.gives("node 8 LoadImage: the host's node has no output 2 ('DEPTH')")
def an_output_that_the_host_does_not_have(w: Workflow):
    at(w, 8)["outputs"].append({"name": "DEPTH", "type": "IMAGE", "links": []})
    cut(w, 10, "source")
    connect(w, 8, 2, 10, "source")


@CHANGES.gives("node 6 Trainer: output 0 is 'adapter' in the file and 'lora' on the host")
def an_output_that_has_another_name(w: Workflow):
    at(w, 6)["outputs"][0]["name"] = "adapter"


@CHANGES.gives("node 5 KSampler.model: required, and not in the file")
def a_required_input_that_the_file_does_not_have(w: Workflow):
    cut(w, 5, "model")
    del at(w, 5)["inputs"][0]
    for link in w["links"]:
        link[4] -= link[3] == 5  # the inputs behind it move up


@CHANGES.gives("node 5 KSampler.model: required, and not connected")
def a_required_input_that_is_not_connected(w: Workflow):
    cut(w, 5, "model")


@CHANGES.gives(
    "node 5 KSampler.model: required, and node 1 UNETLoader is muted",
    "node 6 Trainer.model: required, and node 1 UNETLoader is muted",
)
def a_required_input_from_a_muted_node(w: Workflow):
    at(w, 1)["mode"] = 2


@CHANGES.gives("node 5 KSampler.steps: required, and node 20 Trainer is muted")
def a_required_widget_from_a_muted_node(w: Workflow):
    w["nodes"].append(node(20, "Trainer", "", "lora:LORA_MODEL reward:FLOAT", [], mode=2))
    connect(w, 20, 1, 5, "steps")


@CHANGES.gives(
    "node 5 KSampler.model: required, and its link leads to no node",
    "node 6 Trainer.model: required, and its link leads to no node",
)
def a_required_input_from_a_bypassed_node_that_has_nothing_to_pass(w: Workflow):
    at(w, 1)["mode"] = 4


@CHANGES.gives("node 5 KSampler.model: required, and its link leads to no node")
def a_required_input_from_a_reroute_without_input(w: Workflow):
    w["nodes"].append(node(20, "Reroute", ":*", ":MODEL", None))
    cut(w, 5, "model")
    connect(w, 20, 0, 5, "model")


@CHANGES.gives("node 6 Trainer.scale: takes INT, FLOAT, and node 8 LoadImage gives MASK")
def types_that_do_not_fit_whatever_the_file_says(w: Workflow):
    at(w, 8)["outputs"][1]["type"] = "FLOAT"
    connect(w, 8, 1, 6, "scale")


@CHANGES.gives("node 5 KSampler.model: takes MODEL, and node 2 CLIPLoader gives CLIP")
def types_that_do_not_fit_through_a_reroute(w: Workflow):
    cut(w, 5, "model")
    w["nodes"].append(node(20, "Reroute", ":*", ":MODEL", None))
    connect(w, 2, 0, 20, "")
    connect(w, 20, 0, 5, "model")


@CHANGES.gives("node 5 KSampler.sampler_name: takes COMBO, and node 6 Trainer gives FLOAT")
def a_type_that_does_not_fit_a_combo(w: Workflow):
    connect(w, 6, 1, 5, "sampler_name")


@pytest.mark.parametrize(("change", "messages"), CHANGES)
def test_a_change_gives(sound, change, messages):
    change(sound)
    assert problems(sound, HOST).problems == messages
