"""What a person does with the quickstart's workflow: choose a preset, press Run, look at the pictures."""

import json
from pathlib import Path
from typing import Any

import pytest

from _browser import load_workflow
from _client import ComfyClient

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).resolve().parents[2] / "workflows" / "quickstart.json"

WIDGETS = "() => Object.fromEntries(app.graph.nodes.find(n => n.type === 'PaveTrain').widgets.map(w => [w.name, w.value]))"
SET_WIDGET = """([name, value]) => {
    const node = app.graph.nodes.find(n => n.type === 'PaveTrain')
    const widget = node.widgets.find(w => w.name === name)
    widget.value = value
    widget.callback?.(value, app.canvas, node)
}"""
def differences(page: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """{widget of Pave Train: (shown, expected)} where the two are not the same."""
    shown = page.evaluate(WIDGETS)
    return {widget: (shown[widget], value) for widget, value in expected.items() if shown[widget] != pytest.approx(value)}


def wait_for_run(page: Any, client: ComfyClient, done: set[str], seconds: int = 600) -> dict[str, Any]:
    """The history's entry of the first prompt that is not in `done`."""
    for _ in range(seconds):
        page.wait_for_timeout(1_000)
        for prompt_id, entry in json.loads(client.get("/history")).items():
            if prompt_id not in done:
                return entry
    raise TimeoutError(f"no run has ended within {seconds} seconds")


def test_a_preset_fills_the_widgets(page, client):
    presets = json.loads(client.get("/pave/presets"))
    load_workflow(page, QUICKSTART)
    for name, expected in presets.items():
        page.evaluate(SET_WIDGET, ["preset", name])
        page.wait_for_timeout(300)
        assert differences(page, expected) == {}, name


def test_the_widgets_of_the_quickstart_show_its_preset(page, client):
    presets = json.loads(client.get("/pave/presets"))
    load_workflow(page, QUICKSTART)
    assert differences(page, presets[page.evaluate(WIDGETS)["preset"]]) == {}


def test_changing_a_setting_leaves_the_preset(page):
    load_workflow(page, QUICKSTART)
    page.evaluate(SET_WIDGET, ["preset", "quick"])
    page.wait_for_timeout(300)
    page.evaluate(SET_WIDGET, ["iterations", 7])
    shown = page.evaluate(WIDGETS)
    assert (shown["preset"], shown["iterations"]) == ("custom", 7)


@pytest.mark.slow
def test_the_quickstart_runs_from_the_page(page, client, layout, artifacts):
    page.problems.clear()
    load_workflow(page, QUICKSTART)
    for widget, value in (("iterations", 2), ("prompts_per_step", 1), ("group_size", 4), ("evaluation_seeds", 1)):
        page.evaluate(SET_WIDGET, [widget, value])
    done = set(json.loads(client.get("/history")))
    page.evaluate("app.queuePrompt(0, 1)")
    run = wait_for_run(page, client, done)
    assert run["status"]["status_str"] == "success", run["status"]["messages"]

    images = [image for output in run["outputs"].values() for image in output.get("images", ())]
    assert len(images) == 2 + 4 + 4, "curve, grid, four before, four after"
    assert all(client.view(**image).startswith(b"\x89PNG") for image in images)
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(2_000)
    page.screenshot(path=artifacts / "quickstart_after_run.png")
    assert layout().problems() == [], "the pictures made a node grow over another"
    assert [problem for problem in page.problems if "comfyui-pave-grpo" in problem] == []
