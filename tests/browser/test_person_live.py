"""A person as the reward in the real page of the real server: by mouse and by keys, over a reload and a restart of the
server, in two pages, and to the end of the workflow that comes with the pack.
"""

import json

import pytest

from _host.browser import load_workflow, nodes_2, page_of, until
from _own_server import own_server
from _person_answers import asking
from _training_graphs import with_settings
from _workflows.names import file_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LOADED = """view => [...view.querySelectorAll(".pave-tile img")].every(image => image.naturalWidth > 0)"""


@pytest.fixture(scope="module")
def own(comfyui, tmp_path_factory):
    """A server of its own, which a test restarts."""
    with own_server(comfyui, tmp_path_factory.mktemp("person")) as running:
        yield running


@pytest.fixture
def open_page(browser, own):
    """open_page() opens another page of the server, of 1280 x 800."""
    opened = []

    def open_one():
        opened.append(page_of(browser, own.url, 1280, 800))
        return opened[-1]

    yield open_one
    for page in opened:
        page.close()


def window(page):
    """The window of the question that waits, once its images are there."""
    view = page.locator("dialog .pave-person")
    until(page, "a window asks", lambda: view.locator(".pave-tile").count() > 0)
    until(page, "its images are loaded", lambda: view.evaluate(LOADED))
    return view


def count(view):
    return view.locator("header .pave-time").inner_text()


def answered(page, view, does, before):
    """Do what answers, and wait for the next question."""
    does()
    until(page, "the next is asked", lambda: count(view) != before and view.locator(".pave-tile").count() > 0)


def asked(client):
    """The question that waits, as the server tells it."""
    return json.loads(client.get("/pave/person"))["question"]


def clicks(server, name):
    file = server.output / "pave" / name / "person" / "clicks.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def ended(page, client, prompt_id):
    def done():
        return prompt_id in json.loads(client.get(f"/history/{prompt_id}"))

    until(page, "it has ended", done)
    return client.history(prompt_id)["status"]["status_str"]


def test_by_mouse_and_keys_over_a_reload_and_a_restart_in_two_pages(own, open_page, artifacts):
    page = open_page()
    with own.client() as client:
        client.queue(asking("mine", 2))
        view = window(page)
        page.screenshot(path=artifacts / "person_live_dark.png")
        before = count(view)
        view.locator(".pave-tile").nth(1).click()
        answered(page, view, view.get_by_role("button", name="Done").click, before)
        assert clicks(own, "mine_00001")[0]["choice"]["tiers"][0] == [1]

        page.keyboard.press("3")
        picked = view.locator('.pave-tile[aria-pressed="true"]')
        until(page, "one is picked", lambda: picked.count() == 1)
        until(page, "it is stored", lambda: asked(client)["picked"])
        page.reload()
        view = window(page)
        picked = view.locator('.pave-tile[aria-pressed="true"]')
        until(page, "it is picked again", lambda: picked.count() == 1)

        other = open_page()
        theirs = window(other)
        before, shown = count(view), count(theirs)
        answered(page, view, lambda: page.keyboard.press("Enter"), before)
        until(other, "the other page has the next", lambda: count(theirs) != shown)
        assert len(clicks(own, "mine_00001")) == 2

        page.keyboard.press("2")
        stored = own.output / "pave" / "mine_00001" / "person" / "draft.json"
        until(page, "it is stored", lambda: json.loads(stored.read_text())["picked"] == [1])
        waiting = asked(client)["key"]
    own.stop()
    own.start()
    with own.client() as client:
        resumed = client.queue(with_settings(asking("mine", 2), train={"resume": "mine_00001"}))
        until(page, "the same is asked", lambda: (question := asked(client)) and question["key"] == waiting)
        view = window(page)
        picked = view.locator('.pave-tile[aria-pressed="true"]')
        until(page, "what was picked before is picked", lambda: picked.count() == 1)
        before = count(view)
        answered(page, view, lambda: page.keyboard.press("Enter"), before)
        view.get_by_role("button", name="None of these").click()
        assert ended(page, client, resumed) == "success"
        until(page, "the window is closed", lambda: page.locator("dialog.pave-dialog").count() == 0)
    kinds = [line["choice"]["kind"] for line in clicks(own, "mine_00001")]
    assert kinds == ["ranked", "ranked", "ranked", "none"]


def test_a_closed_window_waits_in_the_sidebar(own, open_page, artifacts):
    page = open_page()
    with own.client() as client:
        prompt_id = client.queue(asking("later", 1))
        window(page)
        page.get_by_role("button", name="Later").click()
        until(page, "it is closed", lambda: page.locator("dialog.pave-dialog").count() == 0)
        panel = page.locator(".pave-panel .pave-person")
        until(page, "the tab is open", lambda: panel.count() == 1, page.locator(".pave-tab-button").click)
        until(page, "it asks", lambda: panel.locator(".pave-tile").count() == 6)
        until(page, "its images are loaded", lambda: panel.evaluate(LOADED))
        page.screenshot(path=artifacts / "person_in_sidebar.png")
        before = count(panel)
        panel.locator(".pave-tile").nth(0).click()
        answered(page, panel, panel.get_by_role("button", name="Done").click, before)
        assert page.locator("dialog.pave-dialog").count() == 0, "it was closed by hand"
        panel.get_by_role("button", name="Large").click()
        view = window(page)
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        assert ended(page, client, prompt_id) == "success"
        assert view.count() == 0 or not view.locator(".pave-tile").count()


@pytest.mark.parametrize("front_end", ["classic", "Nodes 2.0"])
def test_the_workflow_runs_from_the_page(own, open_page, artifacts, front_end):
    page = open_page()
    load_workflow(page, file_of("you_are_the_reward"))
    if front_end == "Nodes 2.0":
        with nodes_2(page):
            _answer_some(page, own, artifacts / "person_nodes2.png")
    else:
        _answer_some(page, own, artifacts / "person_classic.png")


def _answer_some(page, own, picture):
    page.get_by_role("button", name="Run", exact=True).first.click()
    view = window(page)
    assert view.locator(".pave-tile").count() == 12
    page.screenshot(path=picture)
    for _ in range(3):
        before = count(view)
        page.keyboard.press("1")
        answered(page, view, lambda: page.keyboard.press("Enter"), before)
    with own.client() as client:
        client.interrupt()
        until(page, "it is stopped", lambda: not json.loads(client.get("/pave/runs"))["live"])
