"""The panel alone in a real Chromium: its fixtures, and how tests handle it."""

from typing import Any

import pytest

from _host.browser import collect_problems, until
from _panel_server import PALETTES

HOSTILE = '<img src=x onerror="window.hit=1"><b>bold</b>'
SECONDS = 10.0
"""As long as anything on this small page may take."""


@pytest.fixture
def state(served):
    """The server, with nothing to tell."""
    served.reset()
    return served


@pytest.fixture(scope="module")
def opened(browser):
    """The page of all tests here: each loads it afresh."""
    page = browser.new_page(device_scale_factor=1)
    page.set_default_timeout(SECONDS * 1000)
    page.problems = collect_problems(page)
    return page


@pytest.fixture
def sheet(opened, state):
    """The bare page, before the panel is opened in it."""
    opened.set_viewport_size({"width": 420, "height": 900})
    opened.goto(state.url)
    opened.wait_for_function("window.ready")
    palette(opened, "dark")
    opened.problems.clear()
    yield opened
    problems = [problem for problem in opened.problems if "/pave/" not in problem]  # the server may have been away
    opened.goto("about:blank")
    assert problems == []


def palette(page: Any, name: str) -> None:
    """Set the host's palette as the host does: on the root element's style."""
    page.evaluate("style => document.documentElement.setAttribute('style', style)", PALETTES[name])


def open_panel(page: Any) -> None:
    page.evaluate("open_panel()")
    page.wait_for_function("!document.querySelector('.pave-panel').style.visibility")


def wait(page: Any, what: str, met: Any) -> Any:
    return until(page, what, met, seconds=SECONDS)


def chart(page: Any, key: str) -> Any:
    return page.locator(f'[data-chart="{key}"]')


def table(page: Any, key: str) -> list[list[str]]:
    """The chart's numbers as its table shows them."""
    card = chart(page, key)
    button = card.get_by_role("button", name="Table")
    if button.get_attribute("aria-pressed") == "false":
        button.click()
    return card.locator("table tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )


def overflow(page: Any) -> list[str]:
    """What sticks out of the sidebar to the right; a table's own box may scroll."""
    return page.evaluate("""() => {
        const right = document.getElementById("sidebar").getBoundingClientRect().right
        const all = [...document.querySelectorAll(".pave-panel *:not(.pave-table *)")]
        return all.filter(e => e.getBoundingClientRect().right > right + 0.5).map(e => `${e.tagName} ${e.className}`)
    }""")
