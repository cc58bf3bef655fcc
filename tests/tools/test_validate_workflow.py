"""The check of workflows: a sound one, broken in every way; then the pack's, and the page's own nodes, on the real host."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

import validate_workflow
from _workflows.on_host import host_inputs
from validate_workflow import problems

Workflow = dict[str, Any]

# Cut from a real /object_info. KSampler, LoadImage and the loaders are V1 nodes, Trainer is a V3 node.
HOST: dict[str, dict[str, Any]] = {
    "UNETLoader": {
        "input": {"required": {"unet_name": [["here.safetensors"]], "weight_dtype": [["default", "fp8_e4m3fn"], {"advanced": True}]}},
        "output": ["MODEL"],
        "output_name": ["MODEL"],
    },
    "CLIPLoader": {
        "input": {"required": {"clip_name": [[]], "type": [["sd3", "flux2"]]}, "optional": {"device": [["default", "cpu"], {"advanced": True}]}},
        "output": ["CLIP"],
        "output_name": ["CLIP"],
    },
    "CLIPTextEncode": {
        "input": {"required": {"text": ["STRING", {"multiline": True, "dynamicPrompts": True}], "clip": ["CLIP", {"tooltip": "..."}]}},
        "output": ["CONDITIONING"],
        "output_name": ["CONDITIONING"],
    },
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL", {"tooltip": "..."}],
                "seed": ["INT", {"default": 0, "min": 0, "max": 18446744073709551615, "control_after_generate": True}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                "sampler_name": [["euler", "heun"], {"tooltip": "..."}],
                "positive": ["CONDITIONING", {}],
                "negative": ["CONDITIONING", {}],
                "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}],
            }
        },
        "output": ["LATENT"],
        "output_name": ["LATENT"],
    },
    "LoadImage": {
        "input": {"required": {"image": [["there.png"], {"image_upload": True}]}},
        "output": ["IMAGE", "MASK"],
        "output_name": ["IMAGE", "MASK"],
    },
    "ImageInvert": {"input": {"required": {"image": ["IMAGE"]}}, "output": ["IMAGE"], "output_name": ["IMAGE"]},
    "PreviewAny": {"input": {"required": {"source": ["*", {}]}}, "output": [], "output_name": []},
    "Trainer": {
        "input": {
            "required": {
                "model": ["MODEL", {"tooltip": "..."}],
                "preset": ["COMBO", {"default": "custom", "multiselect": False, "options": ["custom", "paper"]}],
                "group_size": ["INT", {"default": 12, "min": 2, "max": 64, "step": 1}],
                "seed": ["INT", {"default": 0, "min": 0, "max": 99, "control_after_generate": False}],
                "resume": ["BOOLEAN", {"default": True}],
            },
            "optional": {
                "scale": ["INT, FLOAT", {}],
                "label": ["STRING", {"forceInput": True}],
                "run_name": ["STRING", {"default": "", "multiline": False}],
            },
            "hidden": {"unique_id": ["UNIQUE_ID"]},
        },
        "output": ["LORA_MODEL", "FLOAT"],
        "output_name": ["lora", "reward"],
    },
}


def node(id_: int, type_: str, inputs: str, outputs: str, values: Any, mode: int = 0) -> dict[str, Any]:
    """A node of a workflow: slots are "name:TYPE", a widget's "name=TYPE"."""
    sockets = [(name.replace("=", ":").split(":"), "=" in name) for name in inputs.split()]
    return {
        "id": id_,
        "type": type_,
        "mode": mode,
        "inputs": [{"name": name, "type": kind, "link": None, **({"widget": {"name": name}} if widget else {})} for (name, kind), widget in sockets],
        "outputs": [{"name": name, "type": kind, "links": None} for name, kind in (output.split(":") for output in outputs.split())],
        "widgets_values": values,
    }


def connect(workflow: Workflow, origin: int, slot: int, target: int, name: str) -> None:
    """Link an output to the input `name`."""
    link = 1 + max((link[0] for link in workflow["links"]), default=0)
    output = at(workflow, origin)["outputs"][slot]
    output["links"] = [*(output["links"] or []), link]
    places = [socket["name"] for socket in at(workflow, target)["inputs"]]
    socket_of(workflow, target, name)["link"] = link
    workflow["links"].append([link, origin, slot, target, places.index(name), output["type"]])


def cut(workflow: Workflow, target: int, name: str) -> None:
    """Take away the link of an input."""
    link = socket_of(workflow, target, name)["link"]
    socket_of(workflow, target, name)["link"] = None
    (origin,) = (entry for entry in workflow["links"] if entry[0] == link)
    workflow["links"].remove(origin)
    at(workflow, origin[1])["outputs"][origin[2]]["links"].remove(link)


def at(workflow: Workflow, id_: int) -> dict[str, Any]:
    return next(node for node in workflow["nodes"] if node["id"] == id_)


def socket_of(workflow: Workflow, id_: int, name: str) -> dict[str, Any]:
    return next(socket for socket in at(workflow, id_)["inputs"] if socket["name"] == name)


def insert(workflow: Workflow, added: dict[str, Any], name: str, target: int, into: str) -> None:
    """Put a node between an input and what feeds it."""
    link = socket_of(workflow, target, into)["link"]
    _, origin, slot, *_ = next(entry for entry in workflow["links"] if entry[0] == link)
    cut(workflow, target, into)
    workflow["nodes"].append(added)
    connect(workflow, origin, slot, added["id"], name)
    connect(workflow, added["id"], 0, target, into)


@pytest.fixture
def sound() -> Workflow:
    """A workflow that has everything in it and nothing wrong."""
    workflow: Workflow = {
        "nodes": [
            node(1, "UNETLoader", "unet_name=COMBO weight_dtype=COMBO", "MODEL:MODEL", ["here.safetensors", "default"]),
            node(2, "CLIPLoader", "clip_name=COMBO type=COMBO device=COMBO", "CLIP:CLIP", ["t5/absent.safetensors", "flux2", "cpu"]),
            node(3, "CLIPTextEncode", "clip:CLIP text=STRING", "CONDITIONING:CONDITIONING", ["a red circle"]),
            node(
                5,
                "KSampler",
                "model:MODEL positive:CONDITIONING negative:CONDITIONING seed=INT steps=INT sampler_name=COMBO denoise=FLOAT",
                "LATENT:LATENT",
                [7, "fixed", 4, "euler", 1],
            ),
            node(
                6,
                "Trainer",
                "model:MODEL scale:INT,FLOAT label:STRING preset=COMBO group_size=INT seed=INT resume=BOOLEAN run_name=STRING",
                "lora:LORA_MODEL reward:FLOAT",
                ["paper", 12, 3, True, ""],
            ),
            node(7, "MarkdownNote", "", "", ["Read me"]),
            node(8, "LoadImage", "image=COMBO upload=IMAGEUPLOAD", "IMAGE:IMAGE MASK:MASK", ["there.png", "image"]),
            node(9, "PreviewAny", "source:*", "", []),
            node(10, "PreviewAny", "source:*", "", []),
        ],
        "links": [],
        "version": 0.4,
    }
    for origin, slot, target, name in (1, 0, 5, "model"), (2, 0, 3, "clip"), (3, 0, 5, "positive"), (3, 0, 5, "negative"), (1, 0, 6, "model"):
        connect(workflow, origin, slot, target, name)
    connect(workflow, 6, 0, 9, "source")
    connect(workflow, 8, 0, 10, "source")
    return workflow


def test_a_sound_workflow_has_no_problem_and_its_missing_model_is_a_note(sound):
    report = problems(sound, HOST)
    assert report.problems == ()
    assert report.notes == ("node 2 needs the file t5/absent.safetensors for CLIPLoader.clip_name",)


# What stays sound

HARMLESS: list[Any] = []


def harmless(change: Callable[[Workflow], object]):
    """The change makes no problem."""
    HARMLESS.append(pytest.param(change, id=change.__name__))
    return change


@harmless
def a_reroute_passes_the_link_on(w: Workflow):
    insert(w, node(20, "Reroute", ":*", ":MODEL", None), "", 5, "model")


@harmless
def a_bypassed_node_passes_the_input_that_fits_and_is_not_looked_at(w: Workflow):
    insert(w, node(20, "No such node", "clip:CLIP model:MODEL", "MODEL:MODEL", [1, 2, 3], mode=4), "model", 5, "model")


@harmless
def a_bypassed_node_passes_the_input_in_the_place_of_the_output(w: Workflow):
    w["nodes"].append(node(20, "No such node", "one:MODEL two:MODEL", "one:MODEL two:MODEL", [], mode=4))
    connect(w, 1, 0, 20, "two")
    cut(w, 5, "model")
    connect(w, 20, 1, 5, "model")


@harmless
def a_muted_node_is_not_looked_at(w: Workflow):
    w["nodes"].append(node(20, "No such node", "x:IMAGE", "", [1], mode=2))


@harmless
def an_optional_input_may_come_from_a_muted_node(w: Workflow):
    w["nodes"].append(node(20, "Trainer", "", "lora:LORA_MODEL reward:FLOAT", [], mode=2))
    connect(w, 20, 1, 6, "scale")


@harmless
def a_link_feeds_a_widget_whatever_its_value(w: Workflow):
    at(w, 5)["widgets_values"][-1] = "nonsense"
    connect(w, 6, 1, 5, "denoise")


@harmless
def a_primitive_feeds_a_widget(w: Workflow):
    w["nodes"].append(node(20, "PrimitiveNode", "", "INT:INT", [4, "fixed"]))
    connect(w, 20, 0, 5, "steps")


@harmless
def widgets_without_inputs_as_older_pages_save_them(w: Workflow):
    for entry in w["nodes"]:
        entry["inputs"] = [socket for socket in entry["inputs"] if "widget" not in socket]


@harmless
def empty_lists_left_out_as_older_pages_do(w: Workflow):
    for key in "inputs", "outputs", "widgets_values":
        del at(w, 7)[key]


@harmless
def values_by_name(w: Workflow):
    at(w, 6)["widgets_values"] = {"preset": "custom", "group_size": 2, "seed": 0, "resume": False}


@harmless
def one_type_of_a_union(w: Workflow):
    w["nodes"].append(node(20, "Trainer", "model:MODEL", "lora:LORA_MODEL reward:FLOAT", ["paper", 12, 3, True, ""]))
    connect(w, 1, 0, 20, "model")
    connect(w, 20, 1, 6, "scale")


@pytest.mark.parametrize("change", HARMLESS)
def test_no_problem_is_made_of(sound, change):
    change(sound)
    assert problems(sound, HOST).problems == ()


# What does not

BROKEN: list[Any] = []


def gives(*messages: str):
    """The change makes these problems and no other."""

    def note(change: Callable[[Workflow], object]):
        BROKEN.append(pytest.param(change, messages, id=change.__name__))
        return change

    return note


@gives("has no nodes")
def no_nodes(w: Workflow):
    w["nodes"] = []


@gives("is in API format: save it from the page with Save, not with Export (API)")
def api_format(w: Workflow):
    w.clear()
    w["1"] = {"class_type": "UNETLoader", "inputs": {}}


@gives("has a node without id, type or mode")
def a_node_without_mode(w: Workflow):
    del at(w, 3)["mode"]


@gives("has an input or output without name or type")
def a_slot_without_type(w: Workflow):
    del at(w, 3)["outputs"][0]["type"]


@gives("has no list of links [id, origin, origin slot, target, target slot, type], as version 0.4 does")
def links_of_version_1(w: Workflow):
    w["links"] = [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 5, "target_slot": 0, "type": "MODEL"}]


@gives("node id 9 is used 2 times")
def a_node_id_twice(w: Workflow):
    at(w, 10)["id"] = 9


@gives("link id 1 is used 2 times")
def a_link_id_twice(w: Workflow):
    w["links"][2][0] = 1


@gives("link 2 has its output at node 77, which is not there", "link 2 is at output 0 of node 2, where the list of links does not have it")
def a_link_from_nowhere(w: Workflow):
    w["links"][1][1] = 77


@gives("link 2 has its input at node 77, which is not there", "link 2 is at input 0 of node 3, where the list of links does not have it")
def a_link_to_nowhere(w: Workflow):
    w["links"][1][3] = 77


@gives("link 2 is not at output 0 of node 2, where the list of links has it")
def an_output_without_its_link(w: Workflow):
    at(w, 2)["outputs"][0]["links"] = None


@gives("link 2 is not at input 0 of node 3, where the list of links has it")
def an_input_without_its_link(w: Workflow):
    socket_of(w, 3, "clip")["link"] = None


@gives(
    "link 2 is at output 0 of node 2, where the list of links does not have it",
    "link 2 is at input 0 of node 3, where the list of links does not have it",
)
def a_link_that_is_not_listed(w: Workflow):
    del w["links"][1]


@gives("the links go in a circle: nodes 21 -> 20 -> 21")
def a_circle(w: Workflow):
    w["nodes"] += [node(20, "ImageInvert", "image:IMAGE", "IMAGE:IMAGE", []), node(21, "ImageInvert", "image:IMAGE", "IMAGE:IMAGE", [])]
    connect(w, 20, 0, 21, "image")
    connect(w, 21, 0, 20, "image")


@gives("node 20 is a subgraph: not supported, unpack it")
def a_subgraph(w: Workflow):
    w["definitions"] = {"subgraphs": [{"id": "d7344a5a", "nodes": []}]}
    w["nodes"].append(node(20, "d7344a5a", "", "", []))


@gives("node 20 FancySampler: the host has no such node")
def a_type_that_the_host_does_not_have(w: Workflow):
    w["nodes"].append(node(20, "FancySampler", "", "IMAGE:IMAGE", []))
    cut(w, 10, "source")
    connect(w, 20, 0, 10, "source")


@gives("node 3 CLIPTextEncode: the host's node has no input 'mask'")
def an_input_that_the_host_does_not_have(w: Workflow):
    at(w, 3)["inputs"].append({"name": "mask", "type": "MASK", "link": None})


@gives("node 8 LoadImage: the host's node has no output 2 ('DEPTH')")
def an_output_that_the_host_does_not_have(w: Workflow):
    at(w, 8)["outputs"].append({"name": "DEPTH", "type": "IMAGE", "links": []})
    cut(w, 10, "source")
    connect(w, 8, 2, 10, "source")


@gives("node 6 Trainer: output 0 is 'adapter' in the file and 'lora' on the host")
def an_output_that_has_another_name(w: Workflow):
    at(w, 6)["outputs"][0]["name"] = "adapter"


@gives("node 5 KSampler.model: required, and not in the file")
def a_required_input_that_the_file_does_not_have(w: Workflow):
    cut(w, 5, "model")
    del at(w, 5)["inputs"][0]
    for link in w["links"]:
        link[4] -= link[3] == 5  # the inputs behind it move up


@gives("node 5 KSampler.model: required, and not connected")
def a_required_input_that_is_not_connected(w: Workflow):
    cut(w, 5, "model")


@gives("node 5 KSampler.model: required, and node 1 UNETLoader is muted", "node 6 Trainer.model: required, and node 1 UNETLoader is muted")
def a_required_input_from_a_muted_node(w: Workflow):
    at(w, 1)["mode"] = 2


@gives("node 5 KSampler.steps: required, and node 20 Trainer is muted")
def a_required_widget_from_a_muted_node(w: Workflow):
    w["nodes"].append(node(20, "Trainer", "", "lora:LORA_MODEL reward:FLOAT", [], mode=2))
    connect(w, 20, 1, 5, "steps")


@gives("node 5 KSampler.model: required, and its link leads to no node", "node 6 Trainer.model: required, and its link leads to no node")
def a_required_input_from_a_bypassed_node_that_has_nothing_to_pass(w: Workflow):
    at(w, 1)["mode"] = 4


@gives("node 5 KSampler.model: required, and its link leads to no node")
def a_required_input_from_a_reroute_without_input(w: Workflow):
    w["nodes"].append(node(20, "Reroute", ":*", ":MODEL", None))
    cut(w, 5, "model")
    connect(w, 20, 0, 5, "model")


@gives("node 6 Trainer.scale: takes INT, FLOAT, and node 8 LoadImage gives MASK")
def types_that_do_not_fit_whatever_the_file_says(w: Workflow):
    at(w, 8)["outputs"][1]["type"] = "FLOAT"
    connect(w, 8, 1, 6, "scale")


@gives("node 5 KSampler.model: takes MODEL, and node 2 CLIPLoader gives CLIP")
def types_that_do_not_fit_through_a_reroute(w: Workflow):
    cut(w, 5, "model")
    w["nodes"].append(node(20, "Reroute", ":*", ":MODEL", None))
    connect(w, 2, 0, 20, "")
    connect(w, 20, 0, 5, "model")


@gives("node 5 KSampler.sampler_name: takes COMBO, and node 6 Trainer gives FLOAT")
def a_type_that_does_not_fit_a_combo(w: Workflow):
    connect(w, 6, 1, 5, "sampler_name")


@gives("node 6 Trainer.group_size: 1 is below 2")
def a_number_below_the_minimum(w: Workflow):
    at(w, 6)["widgets_values"][1] = 1


@gives("node 5 KSampler.denoise: 1.5 is above 1.0")
def a_number_above_the_maximum(w: Workflow):
    at(w, 5)["widgets_values"][-1] = 1.5


@gives("node 5 KSampler.steps: 4.5 is not of type INT")
def a_fraction_for_a_whole_number(w: Workflow):
    at(w, 5)["widgets_values"][2] = 4.5


@gives("node 5 KSampler.steps: True is not of type INT")
def a_truth_for_a_number(w: Workflow):
    at(w, 5)["widgets_values"][2] = True


@gives("node 6 Trainer.resume: 1 is not of type BOOLEAN")
def a_number_for_a_truth(w: Workflow):
    at(w, 6)["widgets_values"][3] = 1


@gives("node 3 CLIPTextEncode.text: None is not of type STRING")
def nothing_for_a_text(w: Workflow):
    at(w, 3)["widgets_values"] = [None]


@gives("node 5 KSampler.steps: 0 is below 1")
def a_primitive_that_feeds_a_wrong_value(w: Workflow):
    a_primitive_feeds_a_widget(w)
    at(w, 5)["widgets_values"][2] = 0


@gives("node 5 KSampler.sampler_name: 'uni_pc' is not among the options: euler, heun")
def an_option_that_a_v1_combo_does_not_have(w: Workflow):
    at(w, 5)["widgets_values"][3] = "uni_pc"


@gives("node 6 Trainer.preset: 'quick' is not among the options: custom, paper")
def an_option_that_a_v3_combo_does_not_have(w: Workflow):
    at(w, 6)["widgets_values"][0] = "quick"


@gives("node 6 Trainer.preset: ['custom'] is not among the options: custom, paper")
def several_options_for_a_combo_that_takes_one(w: Workflow):
    at(w, 6)["widgets_values"][0] = ["custom"]


@gives("node 5 KSampler: widgets_values has 4 values, and the host's node takes 5: seed, seed control_after_generate, steps, sampler_name, denoise")
def values_without_control_after_generate(w: Workflow):
    at(w, 5)["widgets_values"].remove("fixed")


@gives("node 5 KSampler.seed control_after_generate: 'always' is not among the options: fixed, increment, decrement, randomize, increment-wrap")
def a_wrong_control_after_generate(w: Workflow):
    at(w, 5)["widgets_values"][1] = "always"


@gives("node 9 PreviewAny: widgets_values has 1 values, and the host's node takes 0: none")
def values_for_a_node_without_widgets(w: Workflow):
    at(w, 9)["widgets_values"] = ["text"]


@gives("node 8 LoadImage: widgets_values has 1 values, and the host's node takes 2: image, upload")
def values_without_the_upload_button(w: Workflow):
    at(w, 8)["widgets_values"] = ["there.png"]


@gives("node 6 Trainer: the host's node has no input 'size'", "node 6 Trainer.group_size: required, and the file has no value for it")
def a_widget_under_its_old_name(w: Workflow):
    socket_of(w, 6, "group_size").update(name="size", widget={"name": "size"})


@gives("node 6 Trainer: the host's node has its widgets in another order, by which the page reads them: preset, group_size, seed, resume, run_name")
def widgets_in_another_order(w: Workflow):
    for row in at(w, 6)["inputs"], at(w, 6)["widgets_values"]:
        row[-5], row[-4] = row[-4], row[-5]


@gives("node 6 Trainer.resume: required, and the file has no value for it")
def values_by_name_that_lack_one(w: Workflow):
    at(w, 6)["widgets_values"] = {"preset": "custom", "group_size": 2, "seed": 0}


@pytest.mark.parametrize(("change", "messages"), BROKEN)
def test_is_reported(sound, change, messages):
    change(sound)
    assert problems(sound, HOST).problems == messages


@pytest.mark.parametrize("workflow", [[], "text", None])
def test_json_of_another_kind_is_reported(workflow):
    assert problems(workflow, HOST).problems == ("is not a workflow",)


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
    host["LoadImage"]["input"]["required"]["image"] = ["COMBO", {"image_upload": True, "remote": {"route": "/files", "refresh_button": True}}]
    at(sound, 8)["widgets_values"] = ["there.png", False, "refresh", "image"]
    report = problems(sound, host)
    assert report.problems == ()
    assert "node 8 LoadImage.image: the page fetches the options by itself, 'there.png' is not checked" in report.notes


# The command


@pytest.fixture
def command(server, monkeypatch) -> Callable[..., int]:
    """Call it with arguments; returns the exit code."""
    monkeypatch.setattr(validate_workflow, "end_on_sigterm", lambda: None)

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["validate_workflow.py", "--url", server.url, *map(str, arguments)])
        return validate_workflow.main()

    return run


def test_no_workflow_of_the_pack_has_a_problem_on_the_real_host(client, root):
    object_info = client.object_info()
    found = {file.stem: problems(json.loads(file.read_text("utf-8")), object_info).problems for file in (root / "workflows").glob("*.json")}
    assert "quickstart" in found
    assert found == dict.fromkeys(found, ())


def test_the_command_prints_a_line_per_finding_and_counts(command, tmp_path, capsys):
    good, bad, text = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "text.json"
    loader = node(1, "UNETLoader", "unet_name=COMBO weight_dtype=COMBO", "MODEL:MODEL", ["absent.safetensors", "default"])
    good.write_text(json.dumps({"nodes": [loader], "links": []}), encoding="utf-8")
    bad.write_text(json.dumps({"nodes": [{**loader, "type": "NoSuchLoader"}], "links": []}), encoding="utf-8")
    text.write_text("{", encoding="utf-8")
    assert command(good) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok  {good} (1 nodes, 0 links)",
        f"{good}: note: node 1 needs the file absent.safetensors for UNETLoader.unet_name",
        "1 file, 0 problems, 1 note",
    ]
    assert command(good, bad, text, tmp_path / "none.json") == 1
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"{bad}: node 1 NoSuchLoader: the host has no such node",
        f"{text}: is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        f"{tmp_path / 'none.json'}: cannot be read: No such file or directory",
        "4 files, 3 problems, 1 note",
    ]


def test_the_command_without_files_is_wrong_usage(command):
    with pytest.raises(SystemExit, match="2"):
        command()


def test_the_command_says_when_no_host_answers(command, tmp_path, capsys):
    assert command("--url", "http://127.0.0.1:9", tmp_path / "any.json") == 1
    assert "no ComfyUI answers at http://127.0.0.1:9" in capsys.readouterr().err


# The oracle for what object_info does not say: the order of widgets, and which values the page adds to them.

FRESH_NODES = """types => app.graph.clear() ?? types.map(type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node.serialize()
})"""


@pytest.mark.browser
def test_the_page_makes_the_widgets_that_are_expected(page, client):
    object_info = {type_: info for type_, info in client.object_info().items() if info["python_module"].split(".")[0] in ("nodes", "custom_nodes")}
    fresh = page.evaluate(FRESH_NODES, list(object_info))
    assert any(type_.startswith("Pave") for type_ in object_info)
    for made in fresh:
        expected = host_inputs(object_info[made["type"]]).values()
        assert [socket["name"] for socket in made["inputs"]] == [*sockets(expected), *widgets(expected)], made["type"]
        assert len(made.get("widgets_values", [])) == sum(entry.is_widget for entry in expected), made["type"]
        assert [output["name"] for output in made["outputs"]] == object_info[made["type"]]["output_name"], made["type"]


def sockets(inputs) -> list[str]:
    return [entry.name for entry in inputs if not entry.is_widget]


def widgets(inputs) -> list[str]:
    """Those that have a socket too, which control after generate and its like have not."""
    own = {added.name for entry in inputs for added in entry.page_widgets}
    return [entry.name for entry in inputs if entry.is_widget and entry.name not in own]
