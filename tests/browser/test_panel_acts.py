"""What people do with runs, in the real page of the real server: resume, open, copy, compare, delete, and a restart."""

import json
from contextlib import nullcontext

import pytest

from _editor import IN_A_SUBGRAPH, SET_WIDGETS, queue, run_workflow
from _host.browser import export_prompt, load_workflow, nodes_2, page_of, until
from _own_server import own_server
from _training_graphs import trained
from _workflows.names import file_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUICKSTART = file_of("quickstart")
TAB = ".pave-tab-button"
SMALL = {
    **{"preset": "custom", "iterations": 2, "prompts_per_step": 1, "group_size": 3, "steps": 4, "branch_steps": "0, 1"},
    **{"evaluation_seeds": 1, "evaluate_every": 1, "seeds": 1, "run_name": "from_page"},
}
RESUME = """() => app.graph.nodes.filter(n => n.comfyClass === "PaveTrain")
    .map(n => n.widgets.find(w => w.name === "resume").value)"""
COPY_NODE = """() => {
    const [first] = app.graph.nodes.filter(n => n.comfyClass === "PaveTrain")
    const second = LiteGraph.createNode("PaveTrain")
    app.graph.add(second)
    second.pos = [first.pos[0] + 2000, first.pos[1]]
    app.canvas.deselectAll()
    return second.id
}"""
PICTURES = "() => [...document.querySelectorAll('.pave-pair img')].map(image => image.naturalWidth)"
LORAS = """() => {
    const node = LiteGraph.createNode("LoraLoaderModelOnly")
    return node.widgets.find(w => w.name === "lora_name").options.values
}"""


@pytest.fixture(scope="module")
def own(comfyui, tmp_path_factory):
    """A server of its own, which may be restarted."""
    with own_server(comfyui, tmp_path_factory.mktemp("acts")) as running:
        yield running


@pytest.fixture(scope="module")
def page(browser, own):
    """A page of it, with a run that was started in it (from_page_00001), and one that came from elsewhere."""
    page = page_of(browser, own.url)
    page.set_default_timeout(60_000)
    load_workflow(page, QUICKSTART)
    page.evaluate(SET_WIDGETS, SMALL)
    with own.client() as client:
        assert run_workflow(page, client, lambda: queue(page))["status"]["status_str"] == "success"
        client.run(trained("from_elsewhere", 2), timeout=200)
    opened(page)
    yield page
    page.close()


def opened(page) -> None:
    panel = page.locator(".pave-panel")
    if not panel.count():
        until(page, "the tab is open", lambda: panel.count() == 1, page.locator(TAB).click)


def listed(page) -> list[str]:
    """The list of runs is shown; their names."""
    back = page.locator(".pave-back")
    if back.count():
        back.click()
    page.locator(".pave-row").first.wait_for()
    return page.locator(".pave-name").all_inner_texts()


def action(page, run: str, name: str) -> None:
    """Do something with a run in the list."""
    listed(page)
    group = page.get_by_role("group", name=f"Actions of {run}")
    if not group.is_visible():
        page.get_by_role("button", name=f"Actions of {run}").click()
    group.get_by_role("button", name=name, exact=True).click()


@pytest.mark.parametrize("front_end", ["classic", "nodes 2"])
def test_resume_puts_the_run_into_the_node(page, artifacts, front_end):
    load_workflow(page, QUICKSTART)
    with nodes_2(page) if front_end == "nodes 2" else nullcontext():
        action(page, "from_page_00001", "Resume")
        page.get_by_text("is from_page_00001 now. Press Run").wait_for()
        assert page.evaluate(RESUME) == ["from_page_00001"]
        (inputs,) = (node["inputs"] for node in export_prompt(page).values() if node["class_type"] == "PaveTrain")
        assert inputs["resume"] == "from_page_00001"
        if front_end == "nodes 2":
            node = page.locator("[data-node-id]", has=page.get_by_text("Pave Train", exact=False))
            until(page, "the node shows it", lambda: any("from_page_00001" in t for t in node.all_inner_texts()))
        page.screenshot(path=artifacts / f"panel_resume_{front_end.replace(' ', '')}.png")


def test_of_two_nodes_that_train_the_selected_one_is_meant(page):
    load_workflow(page, QUICKSTART)
    second = page.evaluate(COPY_NODE)
    action(page, "from_page_00001", "Resume")
    page.get_by_text("2 nodes train here: select the one that is to go on.").wait_for()
    assert page.evaluate(RESUME) == ["none", "none"]
    page.evaluate("id => app.canvas.selectItems([app.graph.getNodeById(id)])", second)
    action(page, "from_page_00001", "Resume")
    until(page, "it is the selected one", lambda: page.evaluate(RESUME) == ["none", "from_page_00001"])
    page.evaluate("() => app.graph.clear()")
    action(page, "from_page_00001", "Resume")
    page.get_by_text("No node of the open workflow trains.").wait_for()


@pytest.mark.parametrize("promoted", [[], ["resume"]], ids=["inside", "shown outside"])
def test_a_node_in_a_subgraph_gets_it_too(page, promoted):
    load_workflow(page, QUICKSTART)
    page.evaluate(IN_A_SUBGRAPH, ["PaveTrain", promoted])
    action(page, "from_page_00001", "Resume")
    page.get_by_text("is from_page_00001 now. Press Run").wait_for()
    (inputs,) = (node["inputs"] for node in export_prompt(page).values() if node["class_type"] == "PaveTrain")
    assert inputs["resume"] == "from_page_00001"


def test_the_workflow_that_began_a_run_opens_and_trains_the_same_again(page, own):
    page.evaluate("() => app.graph.clear()")
    action(page, "from_page_00001", "Open workflow")
    page.get_by_text("The workflow that began it is open").wait_for()
    until(page, "it is there", lambda: page.evaluate(RESUME) == ["none"])
    with own.client() as client:
        assert run_workflow(page, client, lambda: queue(page))["status"]["status_str"] == "success"
    first, again = (own.output / "loras" / "pave" / f"from_page_0000{i}.safetensors" for i in (1, 2))
    files = [path.parents[2] / "pave" / path.stem / "metrics.jsonl" for path in (first, again)]
    records = [[json.loads(line)["reward_mean"] for line in file.read_text().splitlines()] for file in files]
    assert records[0] == records[1]
    assert "Open workflow" not in offered(page, "from_elsewhere_00001"), "it was queued without one"


def offered(page, run: str) -> list[str]:
    listed(page)
    group = page.get_by_role("group", name=f"Actions of {run}")
    if not group.is_visible():
        page.get_by_role("button", name=f"Actions of {run}").click()
    return group.get_by_role("button").all_inner_texts()


def test_a_copied_lora_is_in_the_list_of_load_lora(page):
    action(page, "from_page_00001", "Copy LoRA")
    page.get_by_text("Load LoRA lists it as from_page_00001.safetensors").wait_for()
    assert "from_page_00001.safetensors" in page.evaluate(LORAS)


def test_two_runs_are_compared(page, artifacts):
    listed(page)
    for run in ("from_page_00001", "from_elsewhere_00001"):
        page.get_by_role("checkbox", name=f"Compare {run}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator('[data-chart="gain of two"] .u-over').wait_for()
    names = page.locator('[data-chart="gain of two"] .pave-series').all_inner_texts()
    assert names == ["from_page_00001", "from_elsewhere_00001"]
    page.get_by_role("rowheader", name="optim.learning_rate").wait_for()
    page.screenshot(path=artifacts / "panel_compare_in_host.png")


def test_the_slider_and_a_restart_of_the_server(page, own, artifacts):
    listed(page)
    page.locator(".pave-row", has_text="from_page_00001").click()
    captions = page.locator(".pave-pair figcaption")
    until(page, "step 2", lambda: captions.all_inner_texts() == ["step 0", "step 2"])
    until(page, "its pictures", lambda: page.evaluate(PICTURES) == [64, 64])
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    until(page, "step 1", lambda: captions.all_inner_texts() == ["step 0", "step 1"])
    page.screenshot(path=artifacts / "panel_slider_in_host.png")
    group = page.locator(".pave-advantage").all_inner_texts()
    assert group

    own.stop()
    listed(page)
    page.locator(".pave-row", has_text="from_page_00001").click()
    page.locator(".pave-trouble", has_text="The server does not answer").wait_for()
    own.start()
    until(page, "all is there again", lambda: captions.all_inner_texts() == ["step 0", "step 2"])
    until(page, "its pictures", lambda: page.evaluate(PICTURES) == [64, 64])
    until(page, "its group", lambda: page.locator(".pave-advantage").all_inner_texts() == group)


def test_two_pages_delete_the_same_run(page, browser, own):
    """The first counts, the other is told."""
    names = listed(page)
    other = page_of(browser, own.url)
    try:
        opened(other)
        assert listed(other) == names
        for each in (page, other):
            action(each, "from_page_00002", "Delete ...")
            each.get_by_role("alertdialog").get_by_text("Its LoRA in output/loras/pave stays").wait_for()
        other.get_by_role("button", name="Delete", exact=True).click()
        other.get_by_text("from_page_00002 is deleted.").wait_for()
        assert not (own.output / "pave" / "from_page_00002").exists()
        assert (own.output / "loras" / "pave" / "from_page_00002.safetensors").exists()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_text("there is no run 'from_page_00002'").wait_for()
        until(other, "it is listed no more", lambda: "from_page_00002" not in listed(other))
    finally:
        other.close()
    ours = [problem for problem in page.problems if "/panel/" in problem]
    assert ours == []
