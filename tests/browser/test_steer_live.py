"""A run is steered in the real page while it trains on the real server: by mouse, by keys, over a reload."""

import json
import re

import pytest

from _editor import SET_WIDGETS, our_errors, queue, wait_pictures
from _host.browser import load_workflow, nodes_2, until
from _workflows.names import file_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUICKSTART = file_of("quickstart")
LONG = {
    **{
        "preset": "custom",
        "iterations": 9000,
        "prompts_per_step": 1,
        "group_size": 3,
        "steps": 4,
        "branch_steps": "0, 1",
    },
    **{"evaluation_seeds": 1, "evaluate_every": 0},
}
SAID = """() => {
    const node = app.graph.nodes.find(n => n.type === "PaveTrain")
    const texts = (node.widgets ?? []).filter(w => w.name.includes("text-preview")).map(w => w.value)
    return texts.join("\\n")
}"""
"""What the host shows under the widgets of Pave Train."""
COLLECT = f"""() => {{
    window.paveSaid = new Set()
    const each = () => {{
        window.paveSaid.add(({SAID})())
        for (const time of document.querySelectorAll(".pave-line .pave-time")) window.paveSaid.add(time.textContent)
        requestAnimationFrame(each)
    }}
    each()
}}"""
"""Collects what it and the panel say of the time."""


def opened(page):
    panel, tab = page.locator(".pave-panel"), page.locator(".pave-tab-button")
    until(page, "the tab is open", lambda: panel.count() == 1, tab.click)


def closed(page):
    panel, tab = page.locator(".pave-panel"), page.locator(".pave-tab-button")
    until(page, "the tab is closed", lambda: panel.count() == 0, tab.click)


def button(page, name):
    return page.locator(".pave-steer").get_by_role("button", name=name, exact=True)


def step(page):
    words = " ".join(page.locator(".pave-step").all_inner_texts()).split()
    return int(words[1]) if len(words) > 1 else 0


def said(page):
    return " ".join(page.locator(".pave-obeyed").all_inner_texts())


def begun(page, name):
    """Run the quickstart, and look at its run in the panel: the prompt's id."""
    page.problems.clear()
    load_workflow(page, QUICKSTART)
    page.evaluate(SET_WIDGETS, LONG | {"run_name": name})
    with page.expect_response(lambda got: got.url.endswith("/prompt") and got.request.method == "POST") as asked:
        queue(page)
    prompt_id = asked.value.json()["prompt_id"]
    opened(page)
    page.get_by_role("heading", name=f"{name}_00001").wait_for()
    until(page, "a second step is shown", lambda: step(page) >= 2)
    return prompt_id


def ended(page, client, prompt_id):
    """Wait for the end: its pictures are shown, and the panel says that it has finished."""
    run = until(page, "it has ended", lambda: json.loads(client.get(f"/history/{prompt_id}")).get(prompt_id))
    assert run["status"]["status_str"] == "success", run["status"]["messages"]
    wait_pictures(page, run)
    page.locator(".pave-badge", has_text="finished").wait_for()
    button(page, "Pause").wait_for(state="hidden")


def test_before_the_first_step_it_says_how_long_it_will_take(page, client, server, artifacts):
    page.problems.clear()
    load_workflow(page, QUICKSTART)
    page.evaluate(SET_WIDGETS, LONG | {"run_name": "foretold", "evaluation_seeds": 16})
    opened(page)
    page.evaluate(COLLECT)
    queue(page)
    until(page, "it measures", lambda: any("to go" in said for said in page.evaluate("[...window.paveSaid]")))
    page.screenshot(path=artifacts / "steer_live_foretold.png")
    page.get_by_role("heading", name="foretold_00001").wait_for()
    until(page, "a first step is shown", lambda: step(page) >= 1)
    told = page.evaluate("[...window.paveSaid]")
    client.interrupt()
    page.locator(".pave-badge", has_text="stopped").wait_for()
    print(told)
    on_node = [said for said in told if re.search(r"measuring \d+ of \d+\nat least \d.* (min|h) to go", said)]
    in_panel = [said for said in told if re.fullmatch(r"(about|at least) .* left · .* s a step", said)]
    assert on_node
    assert in_panel
    assert re.search(r"Pave-GRPO time: about .* for 9000 steps of .* and 1 measurement of ", server.log.read_text())
    closed(page)
    assert our_errors(page) == []


def test_by_mouse_it_is_paused_goes_on_over_a_reload_and_its_outputs_arrive(page, client, server, artifacts):
    prompt_id = begun(page, "by_mouse")
    told = until(page, "the node says where it is", lambda: page.evaluate(SAID))
    print(told)
    assert told.startswith("step ")
    assert "s a step" in told
    page.screenshot(path=artifacts / "steer_live_node.png")
    button(page, "Pause").click()
    button(page, "Go on").wait_for()
    at = step(page)
    page.wait_for_timeout(1500)
    assert step(page) - at <= 1  # that which was complete when it was paused
    page.screenshot(path=artifacts / "steer_live_paused.png")
    page.reload()
    page.locator("canvas").first.wait_for()
    opened(page)
    page.get_by_role("heading", name="by_mouse_00001").wait_for()
    button(page, "Go on").wait_for()
    at = step(page)
    button(page, "Save now").click()
    until(page, "it is saved", lambda: said(page) == f"saved step {at}")
    button(page, "Go on").click()
    until(page, "it goes on", lambda: step(page) > at + 1)
    button(page, "Stop and finish").click()
    page.locator(".pave-sure").get_by_role("button", name="Stop and finish").click()
    ended(page, client, prompt_id)
    summary = json.loads((server.output / "pave" / "by_mouse_00001" / "summary.json").read_text())
    assert [entry["order"] for entry in summary["steered"]] == ["pause", "save", "go on", "finish"]
    page.screenshot(path=artifacts / "steer_live_finished.png")
    closed(page)
    assert our_errors(page) == []


def test_by_keys_in_nodes_2(page, client, server, artifacts):
    def press(name, key="Enter"):
        button(page, name).focus()
        page.keyboard.press(key)

    with nodes_2(page):
        prompt_id = begun(page, "by_keys")
        press("Pause", "Space")
        button(page, "Go on").wait_for()
        at = step(page)
        press("Halve the learning rate")
        until(page, "the rate is halved", lambda: said(page).startswith("learning rate halved"))
        press("Evaluate now")  # in a gradient, when that is done
        press("Go on")
        until(page, "it goes on", lambda: step(page) > at + 1)
        page.screenshot(path=artifacts / "steer_live_nodes2.png")
        press("Stop and finish")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        ended(page, client, prompt_id)
        summary = json.loads((server.output / "pave" / "by_keys_00001" / "summary.json").read_text())
        done = [entry["order"] for entry in summary["steered"]]
        assert sorted(done) == ["evaluate", "finish", "go on", "halve", "pause"]
        closed(page)
        assert our_errors(page) == []
