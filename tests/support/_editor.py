"""What the browser tests do in the open editor, and what they read off it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _host.browser import until, wait_drawn
from _host.client import ComfyClient
from _host_differences import SAYS_A_NODE_IS_MISSING

PACK = "comfyui-pave-grpo"  # in the address of every file of ours that the page loads
RUN = 600.0
"""Seconds that a run may take: those here take a few on an idle machine."""

SET_WIDGETS = """values => {
    for (const node of app.graph.nodes) for (const widget of node.widgets ?? []) {
        if (node.type.startsWith("Pave") && widget.name in values) widget.value = values[widget.name]
    }
}"""
RESUMABLE = """() => {
    const train = app.graph.nodes.find(n => n.type === "PaveTrain")
    return train.widgets.find(w => w.name === "resume").options.values
}"""
"""The runs that Pave Train of the open workflow offers to go on with."""
IN_A_SUBGRAPH = """([type, widgets]) => {
    const inside = app.graph.nodes.find(n => n.type === type)
    const outside = app.graph.convertToSubgraph(new Set([inside])).node
    const node = outside.subgraph.nodes.find(n => n.type === type)
    for (const name of widgets) {
        const slot = node.getSlotFromWidget(node.widgets.find(w => w.name === name))
        outside.subgraph.addInput(name, String(slot.type)).connect(slot, node)
    }
}"""
"""Puts a node into a subgraph, and shows these of its widgets on the subgraph too."""
WIRE_ITERATIONS = """() => {
    const source = LiteGraph.createNode("PrimitiveInt"), node = app.graph.nodes.find(n => n.type === "PaveTrain")
    app.graph.add(source)
    source.pos = [node.pos[0] - 400, node.pos[1]]
    source.widgets[0].value = 3
    source.connect(0, node, node.inputs.findIndex(input => input.name === "iterations"))
}"""
"""Wires a 3 into the iterations of Pave Train."""
CLOSE_MESSAGES = "document.querySelectorAll('.p-toast-close-button').forEach(button => button.click())"
FIT = """() => {
    const boxes = [...app.graph.nodes, ...app.graph.groups].map(item => item.boundingRect)
    const [left, top] = [0, 1].map(side => Math.min(...boxes.map(box => box[side])))
    const [right, bottom] = [0, 1].map(side => Math.max(...boxes.map(box => box[side] + box[side + 2])))
    app.canvas.ds.fitToBounds([left, top, right - left, bottom - top], {zoom: 0.85})
    app.canvas.setDirty(true, true)
}"""
PICTURES = """counts => Object.entries(counts).every(([id, count]) => {
    const element = document.querySelector(`[data-node-id="${id}"]`)  // Nodes 2.0, which shows one of several
    const pictures = element ? [...element.querySelectorAll("img")] : app.graph.getNodeById(id).imgs ?? []
    const loaded = pictures.filter(picture => picture.complete && picture.naturalWidth > 0)
    return loaded.length === pictures.length && loaded.length >= (element ? 1 : count)
})"""


def missing_nodes(page: Any) -> list[str]:
    """Node types of the open workflow that the host does not know; what the page says of it counts as one."""
    types = page.evaluate("app.graph.nodes.map(node => node.type)")
    known = page.evaluate("Object.keys(LiteGraph.registered_node_types)")
    said = page.locator(SAYS_A_NODE_IS_MISSING)
    return [*(name for name in types if name not in known), *said.all_inner_texts()]


def our_errors(page: Any) -> list[str]:
    """Errors on the console that come from the pack, and every error or warning that the page shows."""
    shown = page.locator(".p-toast-message-error, .p-toast-message-warn").all_inner_texts()
    return [problem for problem in page.problems if PACK in problem] + shown


def close_messages(page: Any) -> None:
    """Close the page's messages, which lie over the Run button: the host's own on Nodes 2.0 stays until then."""
    shown = page.locator(".p-toast-message")
    if shown.count():
        until(page, "no message is shown", lambda: shown.count() == 0, lambda: page.evaluate(CLOSE_MESSAGES))


def fit(page: Any) -> None:
    """Bring the whole workflow into view. The page draws pictures only where it shows them."""
    page.evaluate(FIT)
    wait_drawn(page)


def fit_and_shoot(page: Any, path: Path) -> None:
    """A picture of the whole workflow, for people to look at."""
    fit(page)
    page.screenshot(path=path)


def run_workflow(page: Any, client: ComfyClient, press: Callable[[], object]) -> dict[str, Any]:
    """Start the open workflow by `press` and wait for its end: the history's entry.

    `press` is not repeated, as it would run the workflow twice; nor need it be, since a click waits until its button
    takes it.
    """
    with page.expect_response(lambda got: got.url.endswith("/prompt") and got.request.method == "POST") as asked:
        press()
    answer = asked.value.json()
    assert asked.value.ok, answer
    assert not answer["node_errors"], answer
    run = answer["prompt_id"]
    return until(page, f"run {run} has ended", lambda: json.loads(client.get(f"/history/{run}")).get(run), seconds=RUN)


def queue(page: Any) -> None:
    """Press Run, as it were."""
    page.evaluate("app.queuePrompt(0, 1)")


def images_of(run: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """{node id: its images} of a history's entry."""
    return {node: output["images"] for node, output in run["outputs"].items() if output.get("images")}


def wait_pictures(page: Any, run: Mapping[str, Any]) -> None:
    """Wait until every node shows the pictures that the run made for it."""
    # An id with a dot is that of a node in an expansion, which is not drawn.
    counts = {node: len(images) for node, images in images_of(run).items() if "." not in node}
    assert counts
    fit(page)
    until(page, f"the pictures of nodes {', '.join(counts)} are shown", lambda: page.evaluate(PICTURES, counts))
    wait_drawn(page)
