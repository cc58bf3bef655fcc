"""A person chooses a preset, and changes a setting of it: Pave Train keeps its preset, settings nodes leave theirs.

On the classic canvas, by clicks and keys; test_shown_numbers does it in Nodes 2.0.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import expect

from _editor import IN_A_SUBGRAPH, WIRE_ITERATIONS
from _host.browser import export_prompt, load_workflow, until, wait_drawn
from _on_canvas import SUBGRAPH, TRAIN, choose_on_canvas, shown_on, type_on_canvas
from _workflows.names import file_of

pytestmark = pytest.mark.browser

QUICKSTART = file_of("quickstart")


@pytest.fixture(scope="module")
def presets(server) -> dict[str, dict[str, Any]]:
    """{preset: {widget: value}} of Pave Train as the pack tells them to the page."""
    return json.loads(server.client().get("/pave/presets"))["PaveTrain"]


def differences(page: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """{widget of Pave Train: (shown, expected)} where the two are not the same."""
    shown = shown_on(page, TRAIN)
    return {
        widget: (shown[widget], value) for widget, value in expected.items() if shown[widget] != pytest.approx(value)
    }


def choose(page: Any, preset: str, values: dict[str, Any]) -> None:
    """Choose a preset; the widgets come to show its values."""
    choose_on_canvas(page, TRAIN, "preset", preset)
    with suppress(TimeoutError):
        until(page, f"preset {preset} is shown", lambda: differences(page, values) == {})
    assert differences(page, values) == {}, preset


def test_a_preset_fills_the_widgets(page, presets):
    load_workflow(page, QUICKSTART)
    for name, expected in presets.items():
        choose(page, name, expected)


def test_the_widgets_of_the_quickstart_show_its_preset(page, presets):
    load_workflow(page, QUICKSTART)
    assert differences(page, presets[shown_on(page, TRAIN)["preset"]]) == {}


def test_changing_a_setting_keeps_the_preset_and_what_it_sets_besides(page, presets):
    load_workflow(page, QUICKSTART)
    for name in ("dance-grpo", "quick"):  # two, because the quickstart shows the second when it opens
        choose(page, name, presets[name])
    choose(page, "dance-grpo", presets["dance-grpo"])
    type_on_canvas(page, TRAIN, "iterations", "7")
    page.wait_for_timeout(300)  # what a preset does to widgets, it does a moment later
    assert differences(page, presets["dance-grpo"] | {"preset": "dance-grpo", "iterations": 7}) == {}


def test_a_graph_of_an_older_version_shows_the_preset_by_its_new_name(page, presets, tmp_path):
    workflow = json.loads(QUICKSTART.read_text())
    (train,) = (node for node in workflow["nodes"] if node["type"] == "PaveTrain")
    place = train["widgets_values"].index("quick")
    train["widgets_values"][place : place + 2] = ["paper", 123]  # the preset, and iterations after it
    (tmp_path / "older.json").write_text(json.dumps(workflow))
    load_workflow(page, tmp_path / "older.json")
    shown = shown_on(page, TRAIN)
    assert (shown["preset"], shown["iterations"]) == ("pave (released code)", 123)
    assert shown["group_size"] == presets["quick"]["group_size"], "only the name is new"


ALONE = """type => {
    app.graph.clear()
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node.id
}"""
THE_NODE = "app.graph.nodes[0]"


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("PaveMemory", "offload", 0.3),
        ("PaveRolloutSettings", "window_every", 7),
        ("PaveObjective", "kl_weight", 0.25),
        ("PaveOptimizer", "ema_decay", 0.5),
    ],
)
def test_the_presets_of_a_settings_node_fill_it_and_are_left(page, server, kind, setting, value):
    presets = json.loads(server.client().get("/pave/presets"))[kind]
    page.evaluate(ALONE, kind)
    assert shown_on(page, THE_NODE)["preset"] == "custom"
    for name, values in presets.items():
        choose_on_canvas(page, THE_NODE, "preset", name)
        expected = values | {"preset": name}
        until(page, f"preset {name} is shown", lambda e=expected: e.items() <= shown_on(page, THE_NODE).items())
    type_on_canvas(page, THE_NODE, setting, str(value))
    until(page, "the preset is left", lambda: shown_on(page, THE_NODE)["preset"] == "custom")
    assert shown_on(page, THE_NODE)[setting] == value


AROUND_IT = """names => {
    const inside = app.graph.nodes.find(n => n.subgraph)
    const outside = app.graph.convertToSubgraph(new Set([inside])).node
    const node = outside.subgraph.nodes.find(n => n.subgraph)
    for (const name of names) {
        const slot = node.inputs.find(i => i.name === name)
        outside.subgraph.addInput(name, String(slot.type)).connect(slot, node)
    }
}"""
INSIDE = f"{SUBGRAPH}.subgraph.nodes[0]"


def sent(page: Any, kind: str) -> dict[str, Any]:
    """The inputs of the node of this class as they are sent."""
    (node,) = (node for node in export_prompt(page).values() if node["class_type"] == kind)
    return node["inputs"]


@pytest.mark.parametrize("deep", [False, True], ids=["a subgraph", "a subgraph in a subgraph"])
def test_a_preset_that_is_promoted_fills_the_widgets(page, presets, deep):
    load_workflow(page, QUICKSTART)
    page.evaluate(IN_A_SUBGRAPH, ["PaveTrain", ["preset", "iterations"]])
    if deep:
        page.evaluate(AROUND_IT, ["preset", "iterations"])
    for name in ("dance-grpo", "quick"):
        choose_on_canvas(page, SUBGRAPH, "preset", name)
        expected = presets[name] | {"preset": name}
        until(page, f"{name} is sent", lambda e=expected: e.items() <= sent(page, "PaveTrain").items())
        assert shown_on(page, SUBGRAPH)["iterations"] == presets[name]["iterations"]
    type_on_canvas(page, SUBGRAPH, "iterations", "7")
    page.wait_for_timeout(1000)  # more than what a preset does to widgets needs
    assert (presets["quick"] | {"preset": "quick", "iterations": 7}).items() <= sent(page, "PaveTrain").items()


def test_a_promoted_preset_of_a_settings_node_is_left_inside_the_subgraph(page, server):
    presets = json.loads(server.client().get("/pave/presets"))["PaveOptimizer"]
    page.evaluate(ALONE, "PaveOptimizer")
    page.evaluate(IN_A_SUBGRAPH, ["PaveOptimizer", ["preset"]])
    (name, values), *_ = presets.items()
    choose_on_canvas(page, SUBGRAPH, "preset", name)
    until(page, f"{name} is inside", lambda: (values | {"preset": name}).items() <= shown_on(page, INSIDE).items())
    type_on_canvas(page, INSIDE, "ema_decay", "0.5")
    until(page, "the preset is left", lambda: shown_on(page, SUBGRAPH)["preset"] == "custom")
    page.wait_for_timeout(1000)
    assert (shown_on(page, INSIDE)["ema_decay"], shown_on(page, SUBGRAPH)["preset"]) == (0.5, "custom")


def test_a_wired_setting_is_what_the_wire_brings_whatever_the_preset(page, presets):
    load_workflow(page, QUICKSTART)
    page.evaluate(WIRE_ITERATIONS)
    wait_drawn(page)
    choose(page, "dance-grpo", {k: v for k, v in presets["dance-grpo"].items() if k != "iterations"})
    inputs = sent(page, "PaveTrain")
    assert export_prompt(page)[inputs["iterations"][0]]["inputs"] == {"value": 3}
    others = {name: value for name, value in presets["dance-grpo"].items() if name != "iterations"}
    assert others.items() <= inputs.items()


def test_uses_of_a_subgraph_with_different_presets_are_warned_about(page):
    load_workflow(page, QUICKSTART)
    page.evaluate(IN_A_SUBGRAPH, ["PaveTrain", ["preset"]])
    page.evaluate("() => app.graph.add(LiteGraph.createNode(app.graph.nodes.find(n => n.subgraph).type))")
    choose_on_canvas(page, SUBGRAPH, "preset", "dance-grpo")
    expect(page.get_by_text("is used more than once, with different presets")).to_have_count(1)
    page.get_by_role("alert").filter(has_text="is used more than once").get_by_label("Close").click()
    expect(page.get_by_text("is used more than once")).to_have_count(0)
