"""A person's questions on the page, in a real Chromium, against answers that the tests make: no ComfyUI runs here."""

import pytest

from _host.browser import collect_problems, until
from _panel_server import PALETTES

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="window.hit=1"> a circle'
SECONDS = 60.0


@pytest.fixture
def desk(served):
    """What is asked; nothing yet."""
    served.reset()
    return served.person


@pytest.fixture
def opened(browser):
    """A page of its own for each test: the keyboard's focus is a page's."""
    page = browser.new_page(device_scale_factor=1)
    page.set_default_timeout(SECONDS * 1000)
    page.problems = collect_problems(page)
    yield page
    page.close()


@pytest.fixture
def sheet(opened, served, desk):
    """The page with nothing opened in it."""
    load(opened, served.url)
    opened.problems.clear()
    yield opened
    refusals = "409"  # what the tests ask for
    problems = [problem for problem in opened.problems if refusals not in problem]
    opened.goto("about:blank")
    assert problems == []


def load(page, url, width=420, height=900, palette="dark"):
    page.set_viewport_size({"width": width, "height": height})
    page.goto(url)
    page.wait_for_function("window.ready")
    page.evaluate("style => document.documentElement.setAttribute('style', style)", PALETTES[palette])


def panel(page):
    page.evaluate("open_panel()")
    page.wait_for_function("!document.querySelector('.pave-panel').style.visibility")
    return page.locator(".pave-person")


def dialog(page):
    page.evaluate("open_dialog()")
    return page.locator("dialog .pave-person")


def wait(page, what, met):
    return until(page, what, met, seconds=SECONDS)


def shown(view, images):
    """Wait until so many images are there and loaded."""
    loaded = """view => [...view.querySelectorAll(".pave-tile img")].filter(image => image.naturalWidth > 0).length"""
    wait(view.page, "the images are shown", lambda: view.evaluate(loaded) == images)


def pressed(view):
    """The places of the images that are picked, as the page shows them."""
    return view.evaluate(
        """view => [...view.querySelectorAll(".pave-tile")].filter(t => t.getAttribute("aria-pressed") === "true")
            .map(t => Number(t.dataset.place))"""
    )


def acted(desk, what):
    return [body for kind, body in desk.posted if kind == what]


@pytest.mark.parametrize("opens", [panel, dialog])
def test_images_are_picked_by_clicks_and_confirmed(sheet, desk, opens):
    desk.ask("a red circle", "a blue star", images=4)
    view = opens(sheet)
    shown(view, 4)
    assert view.locator(".pave-asked-prompt").inner_text() == "a red circle"
    assert "1 of 2" in view.locator("header").inner_text()
    assert view.get_by_role("button", name="Done").is_disabled()
    view.locator(".pave-tile").nth(2).click()
    view.locator(".pave-tile").nth(0).click()
    wait(sheet, "two are picked", lambda: pressed(view) == [0, 2])
    view.get_by_role("button", name="Done").click()
    wait(sheet, "the next is asked", lambda: view.locator(".pave-asked-prompt").inner_text() == "a blue star")
    assert acted(desk, "answer")[-1]["choice"] == {"kind": "ranked", "tiers": [[2, 0], [1, 3]]}
    assert pressed(view) == []
    shown(view, 4)
    view.get_by_role("button", name="None of these").click()
    view.get_by_text("The next images come by themselves: rollout 3 of 8 (step 4 of 40 done).").wait_for()
    assert acted(desk, "answer")[-1]["choice"] == {"kind": "none", "tiers": []}
    assert view.locator(".pave-tile").count() == 0


@pytest.mark.parametrize("opens", [panel, dialog])
def test_all_of_it_goes_by_keys(sheet, desk, opens):
    desk.ask("a red circle", "a blue star", "a green square", images=4)
    view = opens(sheet)
    shown(view, 4)
    view.focus()
    keys = sheet.keyboard
    keys.press("3")
    keys.press("ArrowRight")  # to the first image
    keys.press("ArrowRight")
    keys.press("Space")
    wait(sheet, "two are picked", lambda: pressed(view) == [1, 2])
    keys.press("z")
    wait(sheet, "the last pick is taken back", lambda: pressed(view) == [2])
    keys.press("r")
    keys.press("1")
    wait(sheet, "a ranking", lambda: view.locator(".pave-order li").all_inner_texts() == ["1", "2"])
    keys.press("Enter")
    wait(sheet, "the next is asked", lambda: view.locator(".pave-asked-prompt").inner_text() == "a blue star")
    assert acted(desk, "answer")[-1]["choice"] == {"kind": "ranked", "tiers": [[2], [0], [1, 3]]}
    shown(view, 4)
    keys.press("z")  # nothing is picked: the answer is taken back
    wait(sheet, "it is asked again", lambda: view.locator(".pave-asked-prompt").inner_text() == "a red circle")
    assert view.get_by_text("You are asked again.").is_visible()
    wait(sheet, "with what was picked", lambda: pressed(view) == [0, 2])
    keys.press("s")
    wait(sheet, "the next is asked", lambda: view.locator(".pave-asked-prompt").inner_text() == "a blue star")
    assert acted(desk, "answer")[-1]["choice"] == {"kind": "skipped", "tiers": []}
    keys.press("0")
    wait(sheet, "the next is asked", lambda: view.locator(".pave-asked-prompt").inner_text() == "a green square")
    assert acted(desk, "answer")[-1]["choice"] == {"kind": "none", "tiers": []}


def test_images_are_ranked_by_drag(sheet, desk):
    desk.ask("a red circle", images=4)
    view = dialog(sheet)
    shown(view, 4)
    view.get_by_role("button", name="Rank").click()
    view.locator(".pave-tile").nth(3).click()
    view.locator(".pave-tile").nth(1).click()
    order = view.locator(".pave-order li")
    wait(sheet, "two are ranked", lambda: order.count() == 2)
    view.locator(".pave-tile").nth(0).drag_to(order.nth(0))
    wait(sheet, "the dragged one is first", lambda: desk.questions[0]["picked"] == [0, 3, 1])
    order.nth(2).drag_to(order.nth(1))
    wait(sheet, "the last is second", lambda: desk.questions[0]["picked"] == [0, 1, 3])
    order.nth(0).focus()
    sheet.keyboard.press("ArrowRight")
    wait(sheet, "the first is second", lambda: desk.questions[0]["picked"] == [1, 0, 3])
    view.get_by_role("button", name="Done").click()
    wait(sheet, "it is answered", lambda: len(acted(desk, "answer")) == 1)
    assert acted(desk, "answer")[0]["choice"]["tiers"] == [[1], [0], [3], [2]]


def test_what_is_picked_is_there_after_a_reload(sheet, served, desk):
    desk.ask("a red circle", images=4)
    view = panel(sheet)
    shown(view, 4)
    view.locator(".pave-tile").nth(1).click()
    wait(sheet, "it is stored", lambda: desk.questions[0]["picked"] == [1])
    load(sheet, served.url)
    view = panel(sheet)
    shown(view, 4)
    wait(sheet, "it is picked again", lambda: pressed(view) == [1])


def test_of_two_pages_the_first_counts_and_the_other_is_told(sheet, browser, served, desk):
    desk.ask("a red circle", "a blue star", images=4)
    view = panel(sheet)
    shown(view, 4)
    other = browser.new_page()
    try:
        load(other, served.url)
        late = panel(other)
        shown(late, 4)
        view.locator(".pave-tile").nth(1).click()
        view.get_by_role("button", name="Done").click()
        wait(sheet, "the next is asked", lambda: view.locator(".pave-asked-prompt").inner_text() == "a blue star")
        late.get_by_role("button", name="None of these").click()
        late.get_by_text("This was answered already, on another page: the first answer counts.").wait_for()
        wait(other, "the next is asked there", lambda: late.locator(".pave-asked-prompt").inner_text() == "a blue star")
    finally:
        other.close()
    assert list(desk.answers.values()) == [{"kind": "ranked", "tiers": [[1], [0, 2, 3]]}]


def test_no_key_of_the_window_reaches_the_host(sheet, desk):
    desk.ask("a red circle", images=4)
    sheet.evaluate("window.heard = []; addEventListener('keydown', event => heard.push(event.key))")
    view = dialog(sheet)
    shown(view, 4)
    for key in ("r", "q", "1", "Enter"):
        sheet.keyboard.press(key)
    assert sheet.evaluate("heard") == []
    sheet.keyboard.press("Escape")
    wait(sheet, "it is closed", lambda: sheet.locator("dialog").count() == 0)
    assert sheet.evaluate("window.dialog") is None


def test_a_hostile_prompt_is_text(sheet, desk):
    desk.ask(HOSTILE, images=2)
    view = panel(sheet)
    shown(view, 2)
    assert view.locator(".pave-asked-prompt").inner_text() == HOSTILE
    assert sheet.evaluate("window.hit") is None


@pytest.mark.parametrize("palette", PALETTES)
def test_it_fits_and_looks_as_the_host_does(sheet, served, desk, artifacts, palette):
    desk.ask("a small red circle on a light background", images=12)
    desk.learnt = {"text": "Learnt from 34 answers: of images it had not seen, it orders 78 ± 4 % as you do."}
    load(sheet, served.url, width=300, palette=palette)
    view = panel(sheet)
    shown(view, 12)
    assert sheet.evaluate("document.querySelector('#sidebar').scrollWidth <= 300")
    view.locator(".pave-tile").nth(1).click()
    wait(sheet, "it is picked", lambda: pressed(view) == [1])
    sheet.screenshot(path=artifacts / f"person_narrow_{palette}.png")
    load(sheet, served.url, width=1280, height=800, palette=palette)
    view = dialog(sheet)
    shown(view, 12)
    view.get_by_role("button", name="Rank").click()
    view.locator(".pave-tile").nth(4).click()
    wait(sheet, "both are ranked", lambda: view.locator(".pave-order li").count() == 2)
    boxes = [tile.bounding_box() for tile in view.locator(".pave-tile").all()]
    assert all(box["y"] + box["height"] <= 800 and box["width"] > 100 for box in boxes)
    sheet.screenshot(path=artifacts / f"person_dialog_{palette}.png")
