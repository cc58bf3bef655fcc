"""Every workflow in the real page, in both of its front ends: it opens from the template list, is laid out, and runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from _host.browser import export_prompt, load_workflow, nodes_2
from _host.client import ComfyClient
from _workflows.bundled import RUNNABLE, WORKFLOWS

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PACK = "comfyui-pave-grpo"  # in the address of every file of ours that the page loads
FILES = sorted((ROOT / "workflows").glob("*.json"))
BACKWARDS = """() => [...app.graph.links.values()].map(l => [app.graph.getNodeById(l.origin_id), app.graph.getNodeById(l.target_id)])
    .filter(([from, to]) => from.pos[0] >= to.pos[0]).map(([from, to]) => `${from.title} -> ${to.title}`)"""
SET_WIDGETS = """values => {
    for (const node of app.graph.nodes) for (const widget of node.widgets ?? []) {
        if (node.type.startsWith("Pave") && widget.name in values) widget.value = values[widget.name]
    }
}"""
SMALL = {
    **{"preset": "custom", "iterations": 2, "prompts_per_step": 1, "group_size": 3, "steps": 4, "branch_steps": "0, 1", "evaluation_seeds": 1},
    **{"evaluate_every": 0, "seeds": 1},
}
"""Settings with which a run takes seconds."""


def missing_nodes(page: Any) -> list[str]:
    """Node types of the open workflow that the host does not know; the dialog that says so counts as one."""
    unknown = page.evaluate("app.graph.nodes.filter(n => !(n.type in LiteGraph.registered_node_types)).map(n => n.type)")
    dialog = page.locator("[aria-labelledby=global-missing-nodes]")
    return [*unknown, *dialog.all_inner_texts()]


def our_errors(page: Any) -> list[str]:
    return [problem for problem in page.problems if PACK in problem] + page.locator(".p-toast-message-error, .p-toast-message-warn").all_inner_texts()


def fit_and_shoot(page: Any, path: Path) -> None:
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(1_000)
    page.screenshot(path=path)


def test_a_missing_node_would_be_seen(page):
    node = {"id": 1, "type": "NoSuchNode", "pos": [10, 10], "size": [200, 100], "flags": {}, "order": 0, "mode": 0, "properties": {}}
    workflow = {"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "groups": [], "version": 0.4}
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.locator("[aria-labelledby=global-missing-nodes]").wait_for()
    assert len(missing_nodes(page)) == 2
    page.keyboard.press("Escape")
    page.locator("[aria-labelledby=global-missing-nodes]").wait_for(state="detached")


def test_the_files_are_those_that_are_written_down(page):
    assert sorted(WORKFLOWS) == [file.stem for file in FILES]
    assert [file.name for file in sorted((ROOT / "workflows" / "api").glob("*.json"))] == [file.name for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_opens_and_is_laid_out(page, layout, artifacts, file):
    page.problems.clear()
    load_workflow(page, file)
    assert missing_nodes(page) == []
    assert our_errors(page) == []
    assert layout().problems() == []
    assert page.evaluate(BACKWARDS) == []
    api = file.parent / "api" / file.name
    assert export_prompt(page) == json.loads(api.read_text(encoding="utf-8")), "run: python tools/make_workflows.py"
    assert file.with_suffix(".jpg").read_bytes()[:3] == b"\xff\xd8\xff", "no thumbnail"
    fit_and_shoot(page, artifacts / f"{file.stem}.png")


def test_every_workflow_opens_in_nodes_2(page, artifacts):
    with nodes_2(page):
        for file in FILES:
            page.problems.clear()
            load_workflow(page, file)
            shown = page.locator("[data-node-id]").count()
            assert shown == len(json.loads(file.read_text())["nodes"]), f"{file.stem}: {shown} nodes are drawn"
            assert missing_nodes(page) == []
            assert our_errors(page) == [], file.stem
            assert export_prompt(page) == json.loads((file.parent / "api" / file.name).read_text()), f"{file.stem} is another graph in Nodes 2.0"
            fit_and_shoot(page, artifacts / f"{file.stem}_nodes2.png")


def test_they_are_in_the_host_s_list_of_templates(client):
    assert sorted(json.loads(client.get("/workflow_templates"))[PACK]) == sorted(WORKFLOWS)


@pytest.mark.parametrize("name", ["quickstart", "step_by_step_loop"])
def test_a_template_opens_from_its_address(page, server, name):
    page.goto(f"{server.url}/?template={name}&source={PACK}")
    kind = "PaveTrain" if name == "quickstart" else "PaveLoopEnd"
    page.wait_for_function(f"window.app?.graph?.nodes.some(n => n.type === '{kind}')", timeout=60_000)
    assert missing_nodes(page) == []


def run_open_workflow(page: Any, client: ComfyClient, seconds: int = 300) -> dict[str, Any]:
    """Press Run, as it were, and wait for the end: the history's entry."""
    done = set(json.loads(client.get("/history")))
    page.evaluate("app.queuePrompt(0, 1)")
    for _ in range(seconds):
        page.wait_for_timeout(1_000)
        for prompt_id, entry in json.loads(client.get("/history")).items():
            if prompt_id not in done:
                return entry
    raise TimeoutError(f"no run has ended within {seconds} seconds")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNABLE)  # quickstart first: it leaves the LoRA that two others load
@pytest.mark.parametrize("front_end", ["canvas", "nodes 2"])
def test_it_runs_from_the_page(page, client, layout, artifacts, name, front_end):
    if front_end == "nodes 2" and name not in ("quickstart", "step_by_step_loop"):
        pytest.skip("what differs is how nodes are drawn: two are enough")
    page.problems.clear()
    load_workflow(page, ROOT / "workflows" / f"{name}.json")
    page.evaluate(SET_WIDGETS, SMALL)
    if name == "custom_reward_graph":  # its plain picture has as many images as are drawn
        page.evaluate("app.graph.nodes.find(n => n.type === 'EmptyImage').widgets.find(w => w.name === 'batch_size').value = 6")
    if front_end == "nodes 2":
        with nodes_2(page):
            run = run_open_workflow(page, client)
            fit_and_shoot(page, artifacts / f"{name}_after_run_nodes2.png")
    else:
        run = run_open_workflow(page, client)
        fit_and_shoot(page, artifacts / f"{name}_after_run.png")
        assert layout().problems() == [], "a picture made a node grow over another"
    assert run["status"]["status_str"] == "success", run["status"]["messages"]
    images = [image for output in run["outputs"].values() for image in output.get("images", ())]
    assert images
    assert all(client.view(**image).startswith(b"\x89PNG") for image in images)
    assert our_errors(page) == []


@pytest.mark.slow
def test_training_goes_on_as_the_resume_workflow_says(page, client, server):
    """Run, refresh the lists, choose the run, raise iterations, run again."""
    load_workflow(page, ROOT / "workflows" / "resume_training.json")
    name = "resume_from_page"
    page.evaluate(SET_WIDGETS, SMALL | {"run_name": name})
    assert run_open_workflow(page, client)["status"]["status_str"] == "success"
    page.evaluate("app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    page.wait_for_timeout(3_000)
    options = page.evaluate("app.graph.nodes.find(n => n.type === 'PaveTrain').widgets.find(w => w.name === 'resume').options.values")
    assert f"{name}_00001" in options
    page.evaluate(SET_WIDGETS, {"resume": f"{name}_00001", "iterations": 3})
    assert run_open_workflow(page, client)["status"]["status_str"] == "success"
    lines = (server.output / "pave" / f"{name}_00001" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
