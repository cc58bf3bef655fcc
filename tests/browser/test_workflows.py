"""Every workflow in the real page, in both of its front ends: it opens, from the template list too, and is laid out."""

import json
from contextlib import nullcontext, suppress

import pytest

from _editor import PACK, fit_and_shoot, missing_nodes, our_errors
from _host.browser import export_prompt, load_workflow, nodes_2, until, wait_drawn, wait_ready
from _host_differences import DISMISS_ERRORS, SAYS_A_NODE_IS_MISSING, with_inputs_of_both
from _workflows.bundled import WORKFLOWS
from _workflows.names import FOLDER, api_file_of, file_of, template

pytestmark = pytest.mark.browser

BACKWARDS = """() => {
    const group = node => app.graph.groups.find(({boundingRect: [left, top, width, height]}) =>
        node.pos[0] >= left && node.pos[0] <= left + width && node.pos[1] >= top && node.pos[1] <= top + height)
    const below = (from, to) => group(to).pos[1] > group(from).pos[1] + group(from).size[1]
    return [...app.graph.links.values()]
        .map(link => [app.graph.getNodeById(link.origin_id), app.graph.getNodeById(link.target_id)])
        .filter(([from, to]) => from.pos[0] >= to.pos[0] && !below(from, to))
        .map(([from, to]) => `${from.title} -> ${to.title}`)
}"""
"""Wires that go back, other than to a row of groups below."""


NOTE = """() => {
    const {pos, size} = app.graph.nodes.find(node => node.type === "MarkdownNote"), {ds, canvas} = app.canvas
    const {left, top} = canvas.getBoundingClientRect(), height = LiteGraph.NODE_TITLE_HEIGHT
    const [x, y] = ds.convertOffsetToCanvas([pos[0], pos[1] - height])
    return [left + x, top + y, left + x + size[0] * ds.scale, top + y + (size[1] + height) * ds.scale]
}"""
"""Where the note is on the page: left, top, right, bottom."""

DRAWN = "[...document.querySelectorAll('[data-node-id]')].map(element => element.dataset.nodeId)"
"""The ids of the nodes that Nodes 2.0 draws."""


def nodes_of(name: str) -> list[dict]:
    """The nodes of a workflow's file."""
    return json.loads(file_of(name).read_text(encoding="utf-8"))["nodes"]


def assert_it_is_sent(page, name: str, message: str) -> None:
    """The page sends for the open workflow what its file for the API holds."""
    sent, written = export_prompt(page), json.loads(api_file_of(name).read_text(encoding="utf-8"))
    assert with_inputs_of_both(sent, written) == with_inputs_of_both(written, sent), message


def test_a_missing_node_would_be_seen(page):
    place = {"pos": [10, 10], "size": [200, 100]}
    node = {"id": 1, "type": "NoSuchNode", **place, "flags": {}, "order": 0, "mode": 0, "properties": {}}
    workflow = {"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "groups": [], "version": 0.4}
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    said = page.locator(SAYS_A_NODE_IS_MISSING)
    said.first.wait_for(state="attached")
    assert len(missing_nodes(page)) == 2
    overlay = page.locator(DISMISS_ERRORS)
    if overlay.count():
        until(page, "the overlay is closed", lambda: overlay.count() == 0, overlay.click)
    else:
        until(page, "the dialog is closed", lambda: said.count() == 0, lambda: page.keyboard.press("Escape"))


def test_the_files_are_those_that_are_written_down():
    names = [template(name) for name in WORKFLOWS]
    assert names == sorted(names), "in the order in which they are written down"
    for folder in FOLDER, FOLDER / "api":
        assert sorted(file.stem for file in folder.glob("*.json")) == names
    assert sorted(file.stem for file in FOLDER.glob("*.jpg")) == names


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_opens_and_is_laid_out(page, layout, crossed, artifacts, name):
    page.problems.clear()
    load_workflow(page, file_of(name))
    fit_and_shoot(page, artifacts / f"{name}.png")
    assert missing_nodes(page) == []
    assert our_errors(page) == []
    assert layout().problems() == []
    assert crossed() == []
    assert page.evaluate(BACKWARDS) == []
    assert_it_is_sent(page, name, "run: python tools/make_workflows.py")
    assert file_of(name).with_suffix(".jpg").read_bytes()[:3] == b"\xff\xd8\xff", "no thumbnail"


def open_in_nodes_2(page, drawn_layout, name, picture):
    ids = sorted(str(node["id"]) for node in nodes_of(name))
    page.problems.clear()
    load_workflow(page, file_of(name))
    until(page, f"{name}: each of its nodes is drawn, and no other", lambda: sorted(page.evaluate(DRAWN)) == ids)
    fit_and_shoot(page, picture)
    assert sorted(page.evaluate(DRAWN)) == ids, name
    with suppress(TimeoutError):
        until(page, f"{name} is laid out", lambda: drawn_layout().problems() == [], seconds=20)
    assert drawn_layout().problems() == [], name
    assert missing_nodes(page) == [], name
    assert our_errors(page) == [], name
    assert_it_is_sent(page, name, f"{name} is another graph in Nodes 2.0")


def test_every_workflow_opens_in_nodes_2(page, drawn_layout, artifacts):
    with nodes_2(page):
        for name in WORKFLOWS:
            open_in_nodes_2(page, drawn_layout, name, artifacts / f"{name}_nodes2.png")


def test_the_quickstart_has_ten_nodes_and_is_no_wider_than_high(page, layout):
    load_workflow(page, file_of("quickstart"))
    assert len(page.evaluate("app.graph.nodes.map(node => node.id)")) <= 10
    left, top, right, bottom = zip(*layout().groups.values(), strict=True)
    assert max(right) - min(left) <= max(bottom) - min(top)


@pytest.mark.parametrize("newer", [False, True], ids=["canvas", "Nodes 2.0"])
def test_a_template_opens_at_full_size_with_its_note_in_sight(page, server, newer):
    """At 1280 x 800; the page of the other tests is larger."""
    size = page.viewport_size
    page.set_viewport_size({"width": 1280, "height": 800})
    try:
        with nodes_2(page) if newer else nullcontext():
            page.goto(f"{server.url}/?template={template('quickstart')}&source={PACK}")
            until(page, "it is open", lambda: page.evaluate("(window.app?.graph?.nodes ?? []).length") == 10)
            until(page, "it is at 100 %", lambda: page.evaluate("Math.round(100 * app.canvas.ds.scale)") == 100)
            wait_drawn(page)
            left, top, right, bottom = page.evaluate(NOTE)
            assert left > 58, "not under the sidebar"
            assert (top > 130, bottom < 800) == (True, True), "neither under the bars nor below the edge"
            assert right < 1280 or newer
    finally:
        page.set_viewport_size(size)


def test_what_a_person_saves_opens_where_they_left_it(page):
    load_workflow(page, file_of("quickstart"))
    saved = page.evaluate("() => app.graph.serialize()")
    assert "pave_view" not in saved["extra"]


TEMPLATES = "app.extensionManager.command.execute('Comfy.BrowseTemplates')"


def test_the_search_of_templates_finds_the_quickstart(page, server):
    """By what people type. Only "pave" finds the other too, so that no list is taken for the one after it."""
    page.evaluate(TEMPLATES)
    search = page.locator("[role=dialog] input").first
    quickstart, other = (
        page.get_by_test_id(f"template-workflow-{template(name)}") for name in ("quickstart", "diffusers_pipeline")
    )
    try:
        for words in "grpo", "rl", "train lora", "fine-tune", "quickstart":
            for typed, others in ("pave", 1), (words, 0):
                search.fill("")
                search.press_sequentially(typed)
                until(page, typed, lambda n=others: (quickstart.count(), other.count()) == (1, n), seconds=60)
                quickstart.scroll_into_view_if_needed()
                assert quickstart.is_visible(), typed
    finally:
        page.goto(server.url)  # the list's Escape depends on where the focus is
        wait_ready(page)


def test_they_are_in_the_host_s_list_of_templates(client):
    assert sorted(json.loads(client.get("/workflow_templates"))[PACK]) == [template(name) for name in WORKFLOWS]


@pytest.mark.parametrize("name", ["quickstart", "step_by_step_loop"])
def test_a_template_opens_from_its_address(page, server, name):
    page.goto(f"{server.url}/?template={template(name)}&source={PACK}")
    types = sorted(node["type"] for node in nodes_of(name))
    opened = "(window.app?.graph?.nodes ?? []).map(node => node.type)"
    until(page, f"template {name} is open", lambda: sorted(page.evaluate(opened)) == types)
    wait_drawn(page)
    assert missing_nodes(page) == []
