"""Files that are no workflow, or contradict themselves."""

import pytest

from _small_workflow import HOST, Changes, Workflow, at, connect, node, socket_of
from validate_workflow import problems

CHANGES = Changes()


@CHANGES.harmless
def empty_lists_left_out_as_older_pages_do(w: Workflow):
    for key in "inputs", "outputs", "widgets_values":
        del at(w, 7)[key]


@CHANGES.gives("has no nodes")
def no_nodes(w: Workflow):
    w["nodes"] = []


@CHANGES.gives("is in API format: save it from the page with Save, not with Export (API)")
def api_format(w: Workflow):
    w.clear()
    w["1"] = {"class_type": "UNETLoader", "inputs": {}}


@CHANGES.gives("has a node without id, type or mode")
def a_node_without_mode(w: Workflow):
    del at(w, 3)["mode"]


@CHANGES.gives("has an input or output without name or type")
def a_slot_without_type(w: Workflow):
    del at(w, 3)["outputs"][0]["type"]


@CHANGES.gives("has no list of links [id, origin, origin slot, target, target slot, type], as version 0.4 does")
def links_of_version_1(w: Workflow):
    w["links"] = [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 5, "target_slot": 0, "type": "MODEL"}]


@CHANGES.gives("node id 9 is used 2 times")
def a_node_id_twice(w: Workflow):
    at(w, 10)["id"] = 9


@CHANGES.gives("link id 1 is used 2 times")
def a_link_id_twice(w: Workflow):
    w["links"][2][0] = 1


@CHANGES.gives(
    "link 2 has its output at node 77, which is not there",
    "link 2 is at output 0 of node 2, where the list of links does not have it",
)
def a_link_from_nowhere(w: Workflow):
    w["links"][1][1] = 77


@CHANGES.gives(
    "link 2 has its input at node 77, which is not there",
    "link 2 is at input 0 of node 3, where the list of links does not have it",
)
def a_link_to_nowhere(w: Workflow):
    w["links"][1][3] = 77


@CHANGES.gives("link 2 is not at output 0 of node 2, where the list of links has it")
def an_output_without_its_link(w: Workflow):
    at(w, 2)["outputs"][0]["links"] = None


@CHANGES.gives("link 2 is not at input 0 of node 3, where the list of links has it")
def an_input_without_its_link(w: Workflow):
    socket_of(w, 3, "clip")["link"] = None


@CHANGES.gives(
    "link 2 is at output 0 of node 2, where the list of links does not have it",
    "link 2 is at input 0 of node 3, where the list of links does not have it",
)
def a_link_that_is_not_listed(w: Workflow):
    del w["links"][1]


@CHANGES.gives("the links go in a circle: nodes 21 -> 20 -> 21")
def a_circle(w: Workflow):
    w["nodes"] += [
        node(20, "ImageInvert", "image:IMAGE", "IMAGE:IMAGE", []),
        node(21, "ImageInvert", "image:IMAGE", "IMAGE:IMAGE", []),
    ]
    connect(w, 20, 0, 21, "image")
    connect(w, 21, 0, 20, "image")


@CHANGES.gives("node 20 is a subgraph: not supported, unpack it")
def a_subgraph(w: Workflow):
    w["definitions"] = {"subgraphs": [{"id": "d7344a5a", "nodes": []}]}
    w["nodes"].append(node(20, "d7344a5a", "", "", []))


@pytest.mark.parametrize(("change", "messages"), CHANGES)
def test_a_change_gives(sound, change, messages):
    change(sound)
    assert problems(sound, HOST).problems == messages


@pytest.mark.parametrize("workflow", [[], "text", None])
def test_json_of_another_kind_is_reported(workflow):
    assert problems(workflow, HOST).problems == ("is not a workflow",)
