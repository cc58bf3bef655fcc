"""A headless Chromium on the page of a running ComfyUI, for the browser tests and for exporting workflows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Result = TypeVar("Result")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
QUIET = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.VueNodes.Enabled": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # readable pictures, however far away
}
PATIENCE = 300.0
"""Seconds that anything on the page may take. A busy machine draws a frame in five, and slow is not wrong."""
AGAIN = 20.0
"""Seconds after which a gesture without effect counts as missed."""
POLL = 50
"""Milliseconds between two looks."""

READY = """() => Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100
    && Boolean(window.app?.canvas && window.app.extensionManager?.workflow?.activeWorkflow)"""
DRAWN = """async () => {
    const frame = () => new Promise(requestAnimationFrame)
    const places = () => app.graph.nodes.map(node => [...node.pos, ...node.size])
    const look = () => JSON.stringify([app.canvas.ds.scale, [...app.canvas.ds.offset], places()])
    const before = look()
    app.canvas.setDirty(true, true)
    await frame()
    await frame()
    return look() === before && !app.canvas.dirty_canvas && !app.canvas.dirty_bgcanvas
}"""


def find_chromium() -> str | None:
    """The program of an installed Chromium or Chrome: CHROMIUM_PATH, else the usual names and places."""
    named = os.environ.get("CHROMIUM_PATH")
    found = [named] if named else [*filter(None, map(shutil.which, NAMES)), *PLACES]
    return next((path for path in found if Path(path).is_file()), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium without a page. A process has one at a time: Playwright's loop is that of the thread."""
    from playwright.sync_api import sync_playwright

    # Chromium's own sandbox does not work for root on Linux.
    as_root = sys.platform == "linux" and os.geteuid() == 0
    options = [*QUIET, *(["--no-sandbox"] if as_root else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_page(url: str, width: int = 2400, height: int = 1400) -> Iterator[Page]:
    """A page with the ComfyUI at `url` loaded, without its first-use dialogs; `page.problems` lists console errors."""
    with chromium() as browser:
        yield page_of(browser, url, width, height)


def page_of(browser: Browser, url: str, width: int = 2400, height: int = 1400) -> Page:
    """The page of open_page() in a browser that is open."""
    settle(url)
    page = browser.new_page(viewport={"width": width, "height": height})
    page.problems = collect_problems(page)  # type: ignore[attr-defined]
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(url)
    wait_ready(page)
    return page


def collect_problems(page: Page) -> list[str]:
    """A list that gets every error on the page's console, and every exception that nothing on the page catches."""
    problems: list[str] = []

    def note(line: ConsoleMessage) -> None:
        if line.type == "error":
            problems.append(f"{line.text} ({line.location.get('url')})")

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    return problems


def settle(url: str) -> None:
    """Set this server's user settings so that no dialog or overlay covers the page."""
    body = json.dumps(SETTINGS).encode()
    request = urllib.request.Request(f"{url}/settings", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


def until(
    page: Page,
    what: str,
    met: Callable[[], Result],
    gesture: Callable[[], object] | None = None,
    seconds: float = PATIENCE,
) -> Result:
    """Wait until `met()` is true, and return what it gave.

    A page that is busy can miss a gesture. The one given here is made at once, and again every AGAIN seconds as long as
    `met()` is not true; a warning tells of it.

    Raises TimeoutError when `what`, as in "the search is open", does not come true within `seconds`; RuntimeError when
    it was so before the gesture, which then would show nothing.
    """
    if gesture and met():
        raise RuntimeError(f"{what}: so it was before anything was done for it")
    end = time.monotonic() + seconds
    tries, next_try = 0, 0.0
    while not (found := met()):
        if time.monotonic() > end:
            tried = f" and {tries} tries" if gesture else ""
            raise TimeoutError(f"{what}: not so after {seconds:g} seconds{tried}")
        if gesture and time.monotonic() > next_try:
            gesture()
            tries, next_try = tries + 1, time.monotonic() + AGAIN
        else:
            page.wait_for_timeout(POLL)
    if tries > 1:
        warnings.warn(f"{what}: the page was busy, this took {tries} tries", stacklevel=2)
    return found


def wait_ready(page: Page) -> None:
    """Wait until the editor takes workflows: it has the nodes, and has opened the workflow that it starts with."""
    until(page, "the editor is ready", lambda: page.evaluate(READY))
    wait_drawn(page)


def wait_drawn(page: Page) -> None:
    """Wait until the page has drawn what it has: it draws afresh, nothing moves, nothing is left to draw."""
    until(page, "the page is drawn", lambda: page.evaluate(DRAWN))


@contextlib.contextmanager
def nodes_2(page: Page) -> Iterator[None]:
    """Inside, the page draws its nodes by its newer front end ("Nodes 2.0")."""
    switch = "on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
    page.evaluate(switch, True)
    drawn = page.locator("[data-node-id]")
    until(page, "nodes are drawn by Nodes 2.0", lambda: drawn.count() == page.evaluate("app.graph.nodes.length"))
    try:
        yield
    finally:
        page.evaluate(switch, False)
        until(page, "nodes are drawn on the canvas", lambda: drawn.count() == 0)
        wait_drawn(page)


def load_workflow(page: Page, file: Path) -> None:
    """Open a UI-format workflow as dropping the file on the page does."""
    page.evaluate("workflow => window.app.loadGraphData(workflow)", json.loads(file.read_text(encoding="utf-8")))
    wait_drawn(page)


def export_prompt(page: Page) -> dict[str, Any]:
    """The open workflow in API format, as the page would send it, without the titles that only people read."""
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")
