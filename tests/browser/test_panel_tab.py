"""The panel in the real page's sidebar. What its routes answer is made here."""

import json
from urllib.parse import urlsplit

import pytest

from _host.browser import until
from _panel_answers import detail, listed
from _panel_server import png

pytestmark = pytest.mark.browser

SEND = "name => app.api.dispatchCustomEvent('pave.run', {name})"
PALETTE = "name => app.extensionManager.setting.set('Comfy.ColorPalette', name)"


@pytest.fixture
def answers(page):
    """{path: what the page is told}; a change counts from the next request on."""
    told = {"/pave/runs": {"live": "live", "runs": [listed("live", "training"), listed("before")]}}
    told["/pave/runs/live"] = detail("live")

    def answer(route):
        path = "/pave/" + urlsplit(route.request.url).path.split("/pave/")[1]
        if "/pictures/" in path or "/measured/" in path or path.endswith("/preview"):
            route.fulfill(content_type="image/png", body=png(320, 120))
        else:
            route.fulfill(content_type="application/json", body=json.dumps(told[path]))

    page.route("**/pave/runs**", answer)
    page.route("**/pave/runs/**", answer)
    yield told
    page.unroute("**/pave/runs**")
    page.unroute("**/pave/runs/**")


def test_the_tab_opens_follows_the_run_and_closes(page, answers, artifacts):
    panel = page.locator(".pave-panel")
    button = page.locator(".pave-tab-button")
    assert button.count() == 1
    until(page, "the tab is open", lambda: panel.count() == 1, button.click)
    page.get_by_text("step 12 of 40").wait_for()
    page.locator('[data-chart="guard"] .u-over').wait_for()
    for palette in ("light", "dark"):
        page.evaluate(PALETTE, palette)
        page.wait_for_timeout(500)
        page.screenshot(path=artifacts / f"panel_in_host_{palette}.png")

    answers["/pave/runs/live"]["step"] = 13
    page.evaluate(SEND, "live")
    page.get_by_text("step 13 of 40").wait_for()
    page.locator(".pave-back").click()
    until(page, "both runs are listed", lambda: page.locator(".pave-row").count() == 2)
    room = page.locator(".sidebar-content-container").bounding_box()["height"]
    assert panel.bounding_box()["height"] == pytest.approx(room, abs=1), "its ground fills the sidebar"
    page.screenshot(path=artifacts / "panel_list_in_host.png")

    until(page, "the tab is closed", lambda: panel.count() == 0, button.click)
    until(page, "the tab is open again", lambda: panel.count() == 1, button.click)
    page.get_by_text("step 13 of 40").wait_for()
    until(page, "the tab is closed", lambda: panel.count() == 0, button.click)
    assert [problem for problem in page.problems if "/panel/" in problem or "/pave/" in problem] == []
