"""The checks against the real host and its page: the pack's workflows, and the page's own nodes."""

import json

import pytest

from _workflows.names import template
from _workflows.on_host import host_inputs
from validate_workflow import problems

# The oracle for what object_info does not say: the order of widgets, and which values the page adds to them.
FRESH_NODES = """types => app.graph.clear() ?? types.map(type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node.serialize()
})"""


def test_no_workflow_of_the_pack_has_a_problem_on_the_real_host(client, root):
    object_info = client.object_info()
    files = {file.stem: json.loads(file.read_text("utf-8")) for file in (root / "workflows").glob("*.json")}
    found = {name: problems(workflow, object_info).problems for name, workflow in files.items()}
    assert template("quickstart") in found
    assert found == dict.fromkeys(found, ())


@pytest.mark.browser
def test_the_page_makes_the_widgets_that_are_expected(page, client):
    ours_or_stock = ("nodes", "custom_nodes")
    object_info = {
        type_: info
        for type_, info in client.object_info().items()
        if info["python_module"].split(".")[0] in ours_or_stock
    }
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
