"""Every workflow in the real page: it opens, it is laid out, and the API file beside it is what the page would send."""

import json
from pathlib import Path
from typing import Any

import pytest

from _browser import export_prompt, load_workflow

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PACK = "comfyui-pave-grpo"  # in the address of every file of ours that the page loads
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


def missing_nodes(page: Any) -> list[str]:
    """Node types of the open workflow that the host does not know; the dialog that says so counts as one."""
    unknown = page.evaluate("app.graph.nodes.filter(n => !(n.type in LiteGraph.registered_node_types)).map(n => n.type)")
    dialog = page.locator("[aria-labelledby=global-missing-nodes]")
    return [*unknown, *dialog.all_inner_texts()]


def test_a_missing_node_would_be_seen(page):
    node = {"id": 1, "type": "NoSuchNode", "pos": [10, 10], "size": [200, 100], "flags": {}, "order": 0, "mode": 0, "properties": {}}
    workflow = {"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "groups": [], "version": 0.4}
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.locator("[aria-labelledby=global-missing-nodes]").wait_for()
    assert len(missing_nodes(page)) == 2
    page.keyboard.press("Escape")
    page.locator("[aria-labelledby=global-missing-nodes]").wait_for(state="detached")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_it_opens(page, artifacts, file):
    page.problems.clear()
    load_workflow(page, file)
    assert missing_nodes(page) == []
    assert page.locator(".p-toast-message").all_inner_texts() == []
    assert [problem for problem in page.problems if PACK in problem] == []
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(1_000)
    page.screenshot(path=artifacts / f"{file.stem}.png")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_the_api_file_is_what_the_page_exports(page, file):
    load_workflow(page, file)
    api = file.parent / "api" / file.name
    assert export_prompt(page) == json.loads(api.read_text(encoding="utf-8")), "run: python tools/export_workflows.py"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_it_is_laid_out(page, layout, file):
    load_workflow(page, file)
    assert layout().problems() == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_links_run_from_left_to_right(page, file):
    load_workflow(page, file)
    backwards = page.evaluate(
        """() => [...app.graph.links.values()].map(l => [app.graph.getNodeById(l.origin_id), app.graph.getNodeById(l.target_id)])
            .filter(([from, to]) => from.pos[0] >= to.pos[0]).map(([from, to]) => `${from.title} -> ${to.title}`)"""
    )
    assert backwards == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_it_has_a_thumbnail(file):
    assert file.with_suffix(".jpg").read_bytes()[:3] == b"\xff\xd8\xff"


def test_the_quickstart_opens_from_the_address_that_serve_gives(page, server):
    page.goto(f"{server.url}/?template=quickstart&source={PACK}")
    page.wait_for_function("window.app?.graph?.nodes.some(n => n.type === 'PaveTrain')", timeout=60_000)
    assert missing_nodes(page) == []
