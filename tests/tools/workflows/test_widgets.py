"""Values of widgets against what the host takes."""

import copy

import pytest

from _small_workflow import HOST, Changes, Workflow, at, connect, node, socket_of
from validate_workflow import problems

CHANGES = Changes()


@CHANGES.harmless
def a_link_feeds_a_widget_whatever_its_value(w: Workflow):
    at(w, 5)["widgets_values"][-1] = "nonsense"
    connect(w, 6, 1, 5, "denoise")


@CHANGES.harmless
def a_primitive_feeds_a_widget(w: Workflow):
    w["nodes"].append(node(20, "PrimitiveNode", "", "INT:INT", [4, "fixed"]))
    connect(w, 20, 0, 5, "steps")


@CHANGES.harmless
def widgets_without_inputs_as_older_pages_save_them(w: Workflow):
    for entry in w["nodes"]:
        entry["inputs"] = [socket for socket in entry["inputs"] if "widget" not in socket]


@CHANGES.harmless
def values_by_name(w: Workflow):
    at(w, 6)["widgets_values"] = {"preset": "custom", "group_size": 2, "seed": 0, "resume": False}


@CHANGES.gives("node 6 Trainer.group_size: 1 is below 2")
def a_number_below_the_minimum(w: Workflow):
    at(w, 6)["widgets_values"][1] = 1


@CHANGES.gives("node 5 KSampler.denoise: 1.5 is above 1.0")
def a_number_above_the_maximum(w: Workflow):
    at(w, 5)["widgets_values"][-1] = 1.5


@CHANGES.gives("node 5 KSampler.steps: 4.5 is not of type INT")
def a_fraction_for_a_whole_number(w: Workflow):
    at(w, 5)["widgets_values"][2] = 4.5


@CHANGES.gives("node 5 KSampler.steps: True is not of type INT")
def a_truth_for_a_number(w: Workflow):
    at(w, 5)["widgets_values"][2] = True


@CHANGES.gives("node 6 Trainer.resume: 1 is not of type BOOLEAN")
def a_number_for_a_truth(w: Workflow):
    at(w, 6)["widgets_values"][3] = 1


@CHANGES.gives("node 3 CLIPTextEncode.text: None is not of type STRING")
def nothing_for_a_text(w: Workflow):
    at(w, 3)["widgets_values"] = [None]


@CHANGES.gives("node 5 KSampler.steps: 0 is below 1")
def a_primitive_that_feeds_a_wrong_value(w: Workflow):
    a_primitive_feeds_a_widget(w)
    at(w, 5)["widgets_values"][2] = 0


@CHANGES.gives("node 5 KSampler.sampler_name: 'uni_pc' is not among the options: euler, heun")
def an_option_that_a_v1_combo_does_not_have(w: Workflow):
    at(w, 5)["widgets_values"][3] = "uni_pc"


@CHANGES.gives("node 6 Trainer.preset: 'quick' is not among the options: custom, paper")
def an_option_that_a_v3_combo_does_not_have(w: Workflow):
    at(w, 6)["widgets_values"][0] = "quick"


@CHANGES.gives("node 6 Trainer.preset: ['custom'] is not among the options: custom, paper")
def several_options_for_a_combo_that_takes_one(w: Workflow):
    at(w, 6)["widgets_values"][0] = ["custom"]


@CHANGES.gives(
    "node 5 KSampler: widgets_values has 4 values, and the host's node takes 5: "
    "seed, seed control_after_generate, steps, sampler_name, denoise"
)
def values_without_control_after_generate(w: Workflow):
    at(w, 5)["widgets_values"].remove("fixed")


@CHANGES.gives(
    "node 5 KSampler.seed control_after_generate: 'always' is not among the options: "
    "fixed, increment, decrement, randomize, increment-wrap"
)
def a_wrong_control_after_generate(w: Workflow):
    at(w, 5)["widgets_values"][1] = "always"


@CHANGES.gives("node 9 PreviewAny: widgets_values has 1 values, and the host's node takes 0: none")
def values_for_a_node_without_widgets(w: Workflow):
    at(w, 9)["widgets_values"] = ["text"]


@CHANGES.gives("node 8 LoadImage: widgets_values has 1 values, and the host's node takes 2: image, upload")
def values_without_the_upload_button(w: Workflow):
    at(w, 8)["widgets_values"] = ["there.png"]


@CHANGES.gives(
    "node 6 Trainer: the host's node has no input 'size'",
    "node 6 Trainer.group_size: required, and the file has no value for it",
)
def a_widget_under_its_old_name(w: Workflow):
    socket_of(w, 6, "group_size").update(name="size", widget={"name": "size"})


@CHANGES.gives(
    "node 6 Trainer: the host's node has its widgets in another order, by which the page reads them: "
    "preset, group_size, seed, resume, run_name"
)
def widgets_in_another_order(w: Workflow):
    for row in at(w, 6)["inputs"], at(w, 6)["widgets_values"]:
        row[-5], row[-4] = row[-4], row[-5]


@CHANGES.gives("node 6 Trainer.resume: required, and the file has no value for it")
def values_by_name_that_lack_one(w: Workflow):
    at(w, 6)["widgets_values"] = {"preset": "custom", "group_size": 2, "seed": 0}


@pytest.mark.parametrize(("change", "messages"), CHANGES)
def test_a_change_gives(sound, change, messages):
    change(sound)
    assert problems(sound, HOST).problems == messages


def test_files_that_may_be_elsewhere_are_notes(sound):
    at(sound, 8)["widgets_values"][0] = "mine.png"
    at(sound, 1)["widgets_values"][0] = "Model-Q4.GGUF"
    report = problems(sound, HOST)
    assert report.problems == ()
    assert report.notes == (
        "node 1 needs the file Model-Q4.GGUF for UNETLoader.unet_name",
        "node 2 needs the file t5/absent.safetensors for CLIPLoader.clip_name",
        "node 8 needs the file mine.png for LoadImage.image",
    )


def test_a_combo_may_have_control_after_generate_and_take_several_options(sound):
    host = copy.deepcopy(HOST)
    host["Trainer"]["input"]["required"]["preset"][1].update(control_after_generate=True, multiselect=True)
    at(sound, 6)["widgets_values"] = [["custom", "quick"], "increment-wrap", "/a/", 12, 3, True, ""]
    assert problems(sound, host).problems == ("node 6 Trainer.preset: 'quick' is not among the options: custom, paper",)


def test_an_input_of_several_types_has_the_widget_that_it_names(sound):
    host = copy.deepcopy(HOST)
    host["Trainer"]["input"]["optional"]["scale"] = ["FLOAT,INT", {"widgetType": "FLOAT", "max": 1.0}]
    at(sound, 6)["widgets_values"].insert(-1, 2.5)
    socket_of(sound, 6, "scale")["widget"] = {"name": "scale"}
    at(sound, 6)["inputs"].insert(-1, at(sound, 6)["inputs"].pop(1))
    assert problems(sound, host).problems == ("node 6 Trainer.scale: 2.5 is above 1.0",)


def test_options_that_the_page_fetches_are_a_note(sound):
    host = copy.deepcopy(HOST)
    host["LoadImage"]["input"]["required"]["image"] = [
        "COMBO",
        {"image_upload": True, "remote": {"route": "/files", "refresh_button": True}},
    ]
    at(sound, 8)["widgets_values"] = ["there.png", False, "refresh", "image"]
    report = problems(sound, host)
    assert report.problems == ()
    assert "node 8 LoadImage.image: the page fetches the options by itself, 'there.png' is not checked" in report.notes
