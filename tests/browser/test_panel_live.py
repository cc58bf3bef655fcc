"""The panel on the real page while a run trains on the real server: reload, cancel, and the list afterwards."""

import pytest

from _host.browser import until
from _training_graphs import trained

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TAB = ".pave-tab-button"
LOADED = """() => {
    const images = [...document.querySelectorAll(".pave-images img")]
    return images.every(image => image.complete && image.naturalWidth > 0)
}"""


def opened(page) -> None:
    panel, button = page.locator(".pave-panel"), page.locator(TAB)
    until(page, "the tab is open", lambda: panel.count() == 1, button.click)


def shown_step(page) -> int:
    """The step that the panel shows; 0 before it shows one."""
    words = " ".join(page.locator(".pave-step").all_inner_texts()).split()
    return int(words[1]) if len(words) > 1 else 0


def test_a_run_is_seen_learning_after_a_reload_too_and_stops(page, client, server, artifacts):
    page.problems.clear()
    page.set_default_timeout(60_000)
    opened(page)
    prompt_id = client.queue(trained("watched", 500))
    page.get_by_role("heading", name="watched_00001").wait_for()
    until(page, "a second step is shown", lambda: shown_step(page) >= 2)
    assert "of 500" in page.locator(".pave-step").inner_text()
    images = page.locator(".pave-images img")
    until(page, "the group is shown", lambda: images.count() == 3)
    until(page, "its images are loaded", lambda: page.evaluate(LOADED))
    given = [float(text) for text in page.locator(".pave-advantage").all_inner_texts()]
    assert given == sorted(given, reverse=True)
    assert "colour" in images.first.get_attribute("alt")
    page.screenshot(path=artifacts / "panel_live.png")

    before = shown_step(page)
    page.reload()
    page.locator("canvas").first.wait_for()
    opened(page)
    page.get_by_role("heading", name="watched_00001").wait_for()
    until(page, "it goes on", lambda: shown_step(page) > before)
    until(page, "the group is shown again", lambda: images.count() == 3)

    client.interrupt()
    for _ in client.events(prompt_id, timeout=60):
        pass
    page.get_by_text("stopped, can be resumed").wait_for()
    page.locator(".pave-message", has_text="cancelled after step").wait_for()
    page.locator(".pave-back").click()
    row = page.locator(".pave-row", has_text="watched_00001")
    row.wait_for()
    until(page, "the list is new", lambda: "stopped, can be resumed" in row.inner_text())
    assert "of 500" in row.inner_text()
    page.screenshot(path=artifacts / "panel_live_list.png")
    until(page, "the tab is closed", lambda: page.locator(".pave-panel").count() == 0, page.locator(TAB).click)
    assert [problem for problem in page.problems if "/panel/" in problem or "/pave/" in problem] == []
