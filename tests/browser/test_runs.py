"""Every workflow that the bundled model can run, run from the real page."""

import json
from contextlib import nullcontext, suppress

import pytest

from _editor import RESUMABLE, SET_WIDGETS, fit, images_of, our_errors, queue, run_workflow, wait_pictures
from _host.browser import load_workflow, nodes_2, until
from _person_answers import answering
from _workflows.bundled import RUNNABLE
from _workflows.names import file_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SMALL = {
    **{"preset": "custom", "iterations": 2, "prompts_per_step": 1, "group_size": 3, "steps": 4, "branch_steps": "0, 1"},
    **{"evaluation_seeds": 1, "evaluate_every": 0, "seeds": 1},
}
"""Settings with which a run takes seconds."""
BATCH = """size => {
    app.graph.nodes.find(n => n.type === "EmptyImage").widgets.find(w => w.name === "batch_size").value = size
}"""


SAVED = """() => {
    const node = app.graph.nodes.find(n => n.type === "PaveSaveLoRA")
    return String(node.widgets.find(w => w.name === "$$node-text-preview")?.value)
}"""
"""What Pave Save LoRA shows on itself."""
SPEAK = """() => {
    const types = ["PaveRollout", "PaveScore", "PaveDecompositionLoss", "PaveOptimizerStep"]
    const text = "step 12 of 300: rollout 120 of 384\\ngain +0.0123 ± 0.0045\\n12 s a step, 58 min left"
    for (const node of app.graph.nodes.filter(n => types.includes(n.type))) {
        app.api.dispatchCustomEvent("progress_text", {nodeId: String(node.id), text})
    }
}"""
"""Every node of a loop that says how far it is does so, as when a step takes long: the server's own event."""
LONG_TEXT = "5 How it was trained is in no group"
"""Of generate_with_lora: Nodes 2.0 of 0.3.75 draws the host's Preview as Text as high as its text, a whole recipe."""


def open_and_run(page, client, name):
    """Open a workflow, run it, and wait until its pictures are shown."""
    load_workflow(page, file_of(name))
    page.evaluate(SET_WIDGETS, SMALL)
    if name == "custom_reward_graph":  # its plain picture has as many images as are drawn
        page.evaluate(BATCH, 6)
    with answering(client.url) if name == "you_are_the_reward" else nullcontext():
        run = run_workflow(page, client, lambda: queue(page))
    assert run["status"]["status_str"] == "success", run["status"]["messages"]
    wait_pictures(page, run)
    assert all(client.view(**image).startswith(b"\x89PNG") for images in images_of(run).values() for image in images)
    assert our_errors(page) == []


@pytest.mark.parametrize("name", RUNNABLE)  # quickstart first: it leaves the LoRA that two others load
def test_it_runs_from_the_page(page, client, layout, artifacts, name):
    page.problems.clear()
    open_and_run(page, client, name)
    page.screenshot(path=artifacts / f"{name}_after_run.png")
    if name == "quickstart":
        assert page.evaluate(SAVED).startswith("For Load LoRA, after R: quickstart"), "the node says where the LoRA is"
    assert layout().problems() == [], "a picture made a node grow over another"


@pytest.mark.parametrize("name", RUNNABLE)
def test_it_runs_in_nodes_2_and_no_node_grows_over_another_or_out_of_its_group(
    page, client, drawn_layout, artifacts, name
):
    page.problems.clear()
    with nodes_2(page):
        open_and_run(page, client, name)
        page.evaluate(SPEAK)
        fit(page)
        page.wait_for_timeout(500)  # until nodes have grown
        page.screenshot(path=artifacts / f"{name}_after_run_nodes2.png")

        def problems():
            return [each for each in drawn_layout().problems() if each != LONG_TEXT]

        with suppress(TimeoutError):
            until(page, "what came of it is drawn", lambda: problems() == [], seconds=20)
        assert problems() == []


def test_training_goes_on_as_the_resume_workflow_says(page, client, server):
    """Run, choose the run, which is listed when it has ended, raise iterations, run again."""
    load_workflow(page, file_of("resume_training"))
    name = "resume_from_page"
    page.evaluate(SET_WIDGETS, SMALL | {"run_name": name})
    assert run_workflow(page, client, lambda: queue(page))["status"]["status_str"] == "success"
    first = f"{name}_00001"
    until(page, f"{first} can be resumed", lambda: first in page.evaluate(RESUMABLE))
    page.evaluate(SET_WIDGETS, {"resume": first, "iterations": 3})
    assert run_workflow(page, client, lambda: queue(page))["status"]["status_str"] == "success"
    lines = (server.output / "pave" / first / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
