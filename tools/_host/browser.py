"""A headless Chromium on the page of a running ComfyUI, for the browser tests and for exporting workflows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

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


def find_chromium() -> str | None:
    """The program of an installed Chromium or Chrome: CHROMIUM_PATH, else the usual names and places."""
    named = os.environ.get("CHROMIUM_PATH")
    found = [named] if named else [*filter(None, map(shutil.which, NAMES)), *PLACES]
    return next((path for path in found if Path(path).is_file()), None)


@contextlib.contextmanager
def open_page(url: str, width: int = 2400, height: int = 1400) -> Iterator[Page]:
    """A page with the ComfyUI at `url` loaded, without its first-use dialogs; `page.problems` lists console errors."""
    from playwright.sync_api import sync_playwright

    settle(url)
    # Chromium's own sandbox does not work for root on Linux.
    as_root = sys.platform == "linux" and os.geteuid() == 0
    options = [*QUIET, *(["--no-sandbox"] if as_root else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.problems = collect_problems(page)  # type: ignore[attr-defined]
            page.goto(url)
            wait_ready(page)
            yield page
        finally:
            browser.close()


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


def wait_ready(page: Page) -> None:
    """Wait until the editor accepts workflows."""
    editor = "window.app?.extensionManager && window.app.graph && window.app.canvas && window.LiteGraph"
    for ready in editor, "Object.keys(window.LiteGraph.registered_node_types).length > 100":
        page.wait_for_function(ready, timeout=90_000)
    page.wait_for_timeout(2_000)


@contextlib.contextmanager
def nodes_2(page: Page) -> Iterator[None]:
    """Inside, the page draws its nodes by its newer front end ("Nodes 2.0")."""
    switch = "on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
    page.evaluate(switch, True)
    page.wait_for_timeout(1_000)
    try:
        yield
    finally:
        page.evaluate(switch, False)
        page.wait_for_timeout(1_000)


def load_workflow(page: Page, file: Path) -> None:
    """Open a UI-format workflow as dropping the file on the page does."""
    page.evaluate("workflow => window.app.loadGraphData(workflow)", json.loads(file.read_text(encoding="utf-8")))
    page.wait_for_timeout(1_000)


def export_prompt(page: Page) -> dict[str, Any]:
    """The open workflow in API format, as the page would send it, without the titles that only people read."""
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")
