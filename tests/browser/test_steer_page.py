"""The row of orders in the panel's page, in a real Chromium, against answers that the tests make."""

import json

import pytest

from _host.browser import collect_problems, until
from _panel_answers import detail, listed
from _panel_server import PALETTES

pytestmark = pytest.mark.browser

SECONDS = 10.0
HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture
def page(browser, served):
    """The panel with a run that trains. page.given: the orders that were sent; page.answer: (status, answer)."""
    served.reset()
    served.live, served.runs = "live", [listed("live", "training")]
    served.details["live"] = detail("live", paused=False, ordered=[], obeyed=None)
    page = browser.new_page(device_scale_factor=2, viewport={"width": 320, "height": 900})
    page.set_default_timeout(SECONDS * 1000)
    page.problems, page.given, page.answer = collect_problems(page), [], (200, {"paused": False, "ordered": []})

    def steer(route):
        page.given.append((route.request.url.rsplit("/", 2)[1], json.loads(route.request.post_data)["order"]))
        status, body = page.answer
        route.fulfill(status=status, json=body)

    page.route("**/steer", steer)
    page.goto(served.url)
    page.wait_for_function("window.ready")
    page.evaluate("style => document.documentElement.setAttribute('style', style)", PALETTES["dark"])
    page.evaluate("open_panel()")
    page.get_by_role("button", name="Save now").wait_for()
    yield page
    problems = [problem for problem in page.problems if "/steer" not in problem]  # what is refused is logged
    page.close()
    assert problems == []


def new(page, served, **changes):
    """The server has something new to tell of the run."""
    served.details["live"] |= changes
    page.evaluate("tell('live')")


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def off(page, name):
    return button(page, name).get_attribute("aria-disabled") == "true"


def said(page):
    return page.locator(".pave-obeyed").inner_text() if page.locator(".pave-obeyed").is_visible() else ""


def test_what_is_ordered_is_shown_until_it_is_done(page, served):
    button(page, "Save now").click()
    until(page, "it is sent", lambda: page.given == [("live", "save")], seconds=SECONDS)
    until(page, "it is shown", lambda: said(page) == "saving ...", seconds=SECONDS)
    assert off(page, "Save now")
    button(page, "Save now").click(force=True)
    new(page, served, ordered=["save"])
    page.wait_for_timeout(1200)
    assert said(page) == "saving ..."
    new(page, served, ordered=[], obeyed="saved step 12", message="saved step 12")
    until(page, "it is done", lambda: said(page) == "saved step 12", seconds=SECONDS)
    assert not off(page, "Save now")
    assert not page.locator(".pave-message").is_visible(), "once is enough"
    assert page.given == [("live", "save")]


def test_pause_becomes_go_on_and_the_focus_stays(page, served):
    button(page, "Pause").focus()
    page.keyboard.press("Enter")
    until(page, "it is sent", lambda: page.given == [("live", "pause")], seconds=SECONDS)
    new(page, served, paused=True, obeyed="paused after step 12", phase={"what": "paused", "done": 0, "whole": 0})
    button(page, "Go on").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Go on"
    page.keyboard.press("Space")
    until(page, "it goes on", lambda: page.given[-1] == ("live", "go on"), seconds=SECONDS)


def test_to_stop_is_asked_once_in_the_page_and_escape_leaves_it(page, served):
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    button(page, "Stop and finish").focus()
    page.keyboard.press("Enter")
    page.get_by_text("The step under way is dropped").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Train on"
    page.keyboard.press("Escape")
    assert not page.get_by_text("The step under way is dropped").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Stop and finish"
    assert page.given == []
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    until(page, "it is sent", lambda: page.given == [("live", "finish")], seconds=SECONDS)
    until(page, "it is shown", lambda: said(page).startswith("stopping"), seconds=SECONDS)
    assert off(page, "Stop and finish")
    assert dialogs == []


def test_a_refusal_is_text(page, served):
    page.answer = (409, {"error": HOSTILE})
    button(page, "Evaluate now").click()
    page.locator(".pave-steer [role=alert]", has_text="<img").wait_for()
    assert page.evaluate("window.hit") is None
    assert not off(page, "Evaluate now")
    page.answer = (500, {})
    button(page, "Halve the learning rate").click()
    page.locator(".pave-steer [role=alert]", has_text="the server does not answer").wait_for()


def test_there_are_no_orders_to_a_run_that_does_not_train(page, served):
    new(page, served, status="finished", phase=None)
    page.get_by_role("button", name="Save now").wait_for(state="hidden")


def test_a_run_whose_server_knows_no_orders_is_shown_too(page, served):
    for name in ("paused", "ordered", "obeyed"):
        del served.details["live"][name]
    new(page, served)
    page.wait_for_timeout(1300)
    button(page, "Halve the learning rate").click()
    until(page, "it is sent", lambda: page.given == [("live", "halve")], seconds=SECONDS)


def test_the_time_left_stands_still_while_it_is_paused(page, served):
    new(page, served, paused=True, seconds_left=59.0 * 60)
    button(page, "Go on").wait_for()
    assert "about 59 min left" in page.locator(".pave-line .pave-time").inner_text()


@pytest.mark.parametrize(
    ("seconds", "words"), [(40.0, "at least 40 s left"), (3600.0 * 9.5, "at least 9 h 30 min left")]
)
def test_a_time_that_leaves_something_out_is_at_least_so_long(page, served, seconds, words):
    new(page, served, paused=True, seconds_left=seconds, roughly="at least")
    button(page, "Go on").wait_for()
    assert words in page.locator(".pave-line .pave-time").inner_text()


@pytest.mark.parametrize("palette", PALETTES)
def test_the_row_fits_and_looks_like_the_host(page, served, artifacts, palette):
    page.evaluate("style => document.documentElement.setAttribute('style', style)", PALETTES[palette])
    new(page, served, ordered=["evaluate"], message="checkpoint kept")
    until(page, "it is shown", lambda: said(page) == "evaluating ...", seconds=SECONDS)
    for width in (300, 420):
        page.set_viewport_size({"width": width, "height": 700})
        button(page, "Stop and finish").click()
        for each in page.locator(".pave-steer button").all():
            box = each.bounding_box()
            if box is not None:
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert each.evaluate("e => e.scrollWidth <= e.clientWidth")
        page.screenshot(path=artifacts / f"steer_{palette}_{width}.png")
        button(page, "Train on").click()
