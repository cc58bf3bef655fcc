"""What people do with runs in the panel, against answers that the tests make: no ComfyUI runs here."""

import time
from typing import Any

import pytest

from _panel_answers import detail, listed
from _panel_page import (
    HOSTILE,
    chart,
    open_panel,
    opened,
    overflow,
    palette,
    sheet,
    state,
    table,
    wait,
)

__all__ = ["opened", "sheet", "state"]  # fixtures
pytestmark = pytest.mark.browser


def recipe(rate: float, prompts: list[str], **more: Any) -> dict[str, Any]:
    return {
        "pack": "0.4.0",
        "prompts": prompts,
        "config": {"optim": {"learning_rate": rate, "optimizer": "AdamW"}},
    } | more


def three(state: Any) -> None:
    """Three runs, the first of which trains."""
    state.live = "live"
    state.runs = [listed("live", "training"), listed("one"), listed("two", "stopped", lora=False)]
    for run in state.runs:
        state.details[run["name"]] = detail(run["name"], run["status"], lora=run["lora"])
    state.recipes = {
        "one": recipe(1e-4, ["a cat", "a dog"], reward={"colour": {"weight": 1.0}}),
        "two": recipe(5e-4, ["a cat"], reward={"colour": {"weight": 1.0}}),
    }


def open_list(page: Any) -> None:
    open_panel(page)
    page.locator(".pave-back").click()
    wait(page, "all are listed", lambda: page.locator(".pave-row").count() == 3)


def actions_of(page: Any, name: str) -> Any:
    page.get_by_role("button", name=f"Actions of {name}").click()
    group = page.get_by_role("group", name=f"Actions of {name}")
    group.wait_for()
    return group


def test_what_can_be_done_with_a_run_depends_on_what_is_left_of_it(state, sheet):
    three(state)
    state.runs.append(listed("broken", "damaged", resumable=False, lora=False, workflow=False, picture=None))
    open_panel(sheet)
    sheet.locator(".pave-back").click()
    wait(sheet, "all are listed", lambda: sheet.locator(".pave-row").count() == 4)
    offered = {
        name: actions_of(sheet, name).get_by_role("button").all_inner_texts() for name in ("one", "two", "broken")
    }
    assert offered == {
        "one": ["Resume", "Open workflow", "Recipe", "Copy LoRA", "Delete ..."],
        "two": ["Resume", "Open workflow", "Recipe", "Delete ..."],
        "broken": ["Delete ..."],
    }
    live = actions_of(sheet, "live").get_by_role("button").all_inner_texts()
    assert live == ["Open workflow", "Recipe", "Copy LoRA"], "not what would disturb it"


def test_resume_says_what_the_editor_says(state, sheet):
    three(state)
    open_list(sheet)
    actions_of(sheet, "two").get_by_role("button", name="Resume").click()
    sheet.get_by_text("resume is two now.").wait_for()
    sheet.evaluate("window.answer = {error: 'No node of the open workflow trains.'}")
    sheet.get_by_role("button", name="Resume", exact=True).click()
    said = sheet.get_by_text("No node of the open workflow trains.")
    said.wait_for()
    assert said.get_attribute("data-bad") == "true"
    assert sheet.evaluate("done") == [["resume", "two"], ["resume", "two"]]


def test_the_workflow_that_began_a_run_is_opened_from_its_view_too(state, sheet):
    three(state)
    open_list(sheet)
    sheet.locator(".pave-row", has_text="one").click()
    sheet.get_by_role("button", name="Open workflow").click()
    sheet.get_by_text("The workflow that began it is open").wait_for()
    assert sheet.evaluate("done") == [["open", "one", 0]]
    sheet.evaluate("() => { window.editor.open = async () => { throw new Error('no') } }")
    sheet.get_by_role("button", name="Open workflow").click()
    sheet.get_by_text("The editor cannot open the workflow").wait_for()


def test_the_recipe_is_shown_as_text_and_copied(state, sheet):
    three(state)
    state.recipes["one"]["prompts"] = [HOSTILE]
    open_list(sheet)
    actions_of(sheet, "one").get_by_role("button", name="Recipe").click()
    text = sheet.get_by_role("textbox", name="Recipe of one")
    assert f'"{HOSTILE}"'.replace('"window', '\\"window').replace('1">', '1\\">') in text.input_value()
    assert sheet.evaluate("document.activeElement.textContent") == "Copy"
    sheet.keyboard.press("Enter")
    sheet.get_by_text("The recipe is copied.").wait_for()
    sheet.get_by_role("button", name="Close").click()
    assert text.count() == 0
    assert sheet.evaluate("[window.hit, document.activeElement.textContent]") == [None, "Recipe"]


def test_a_copied_lora_says_its_name(state, sheet):
    three(state)
    open_list(sheet)
    actions_of(sheet, "one").get_by_role("button", name="Copy LoRA").click()
    sheet.get_by_text("Load LoRA lists it as one.safetensors").wait_for()
    assert (state.acted, sheet.evaluate("done")) == ([("one", "copy")], [["refresh"]])


def test_deleting_asks_first_and_by_keys(state, sheet):
    three(state)
    open_list(sheet)
    actions_of(sheet, "one").get_by_role("button", name="Delete ...").focus()
    sheet.keyboard.press("Enter")
    question = sheet.get_by_role("alertdialog")
    words = question.inner_text()
    assert "Delete the folder of one (12.3 MB)" in words
    assert "Its LoRA in output/loras/pave stays" in words
    assert sheet.evaluate("document.activeElement.textContent") == "Keep", "Enter alone deletes nothing"
    sheet.keyboard.press("Escape")
    assert question.count() == 0
    assert state.acted == []
    assert sheet.evaluate("document.activeElement.textContent") == "Delete ..."
    sheet.keyboard.press("Enter")
    sheet.keyboard.press("Shift+Tab")
    sheet.keyboard.press("Enter")
    sheet.get_by_text("one is deleted. What stays in its folder: notes.txt.").wait_for()
    wait(sheet, "it is listed no more", lambda: sheet.locator(".pave-name").all_inner_texts() == ["live", "two"])
    assert state.acted == [("one", "delete")]


def test_deleting_from_the_view_of_a_run_leads_back_to_the_list(state, sheet):
    three(state)
    open_list(sheet)
    sheet.locator(".pave-row", has_text="two").click()
    sheet.get_by_role("button", name="Delete ...").click()
    assert "stays" not in sheet.get_by_role("alertdialog").inner_text(), "it has no LoRA"
    sheet.get_by_role("button", name="Delete", exact=True).click()
    sheet.get_by_text("two is deleted.").wait_for()
    wait(sheet, "it is listed no more", lambda: sheet.locator(".pave-name").all_inner_texts() == ["live", "one"])


def test_what_is_refused_is_said(state, sheet):
    three(state)
    state.refusal = "run: 'one' is in use: wait until it has ended <b>"
    open_list(sheet)
    actions_of(sheet, "one").get_by_role("button", name="Delete ...").click()
    sheet.get_by_role("button", name="Delete", exact=True).click()
    sheet.get_by_text(state.refusal).wait_for()
    assert sheet.locator(".pave-row").count() == 3
    state.refusal = ""
    sheet.get_by_role("group", name="Actions of one").get_by_role("button", name="Copy LoRA").dblclick()
    sheet.get_by_text("Load LoRA lists it as").wait_for()
    assert state.acted == [("one", "copy")], "a double click is one"


def test_two_runs_are_compared(state, sheet):
    three(state)
    state.details["two"]["evaluations"] = [
        {"step": step, "gain": step / 100, "se": 0.001, "judge": None} for step in (0, 6)
    ]
    open_list(sheet)
    button = sheet.locator(".pave-head .pave-small")
    assert (button.inner_text(), button.is_disabled()) == ("Compare two", True)
    for name in ("live", "one", "two"):  # the third takes the place of the first
        sheet.get_by_role("checkbox", name=f"Compare {name}").focus()
        sheet.keyboard.press("Space")
    assert not sheet.get_by_role("checkbox", name="Compare live").is_checked()
    button.click()
    sheet.get_by_role("heading", name="one and two").wait_for()
    head, *rows = table(sheet, "gain of two")
    assert head == ["step", "one", "± standard error", "two", "± standard error"]
    assert [[row[0], row[1], row[3]] for row in rows] == [
        ["0", "0", "0"],
        ["4", "0.008", "–"],
        ["6", "–", "0.06"],
        ["8", "0.017", "–"],
        ["12", "0.0213", "–"],
    ]
    assert len(table(sheet, "reward of two")) == 13
    chart(sheet, "reward of two").get_by_role("button").click()
    assert chart(sheet, "reward of two").locator(".pave-series").all_inner_texts() == ["one", "two"]
    cells = sheet.locator(".pave-differences tr").evaluate_all(
        "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    assert cells == [
        ["one", "two"],
        *(["prompts"], ["a cat\na dog", "a cat"]),
        *(["optim.learning_rate"], ["0.0001", "0.0005"]),
    ]
    sheet.locator(".pave-back").click()
    wait(sheet, "the list is back", lambda: sheet.locator(".pave-row").count() == 3)


def test_runs_without_a_recipe_are_compared_by_their_curves(state, sheet):
    three(state)
    del state.recipes["two"]
    open_list(sheet)
    for name in ("one", "two"):
        sheet.get_by_role("checkbox", name=f"Compare {name}").check()
    sheet.get_by_role("button", name="Compare", exact=True).click()
    sheet.get_by_text("there is no recipe").wait_for()
    assert chart(sheet, "gain of two").count() == 1


LINES = """element => {
    const range = document.createRange()
    range.selectNodeContents(element)
    return range.getClientRects().length
}"""
"""How many lines an element's text takes."""
WIDTHS = "() => [...document.querySelectorAll('.pave-pair img')].map(image => image.naturalWidth)"


def test_the_slider_shows_each_measured_step_beside_the_first(state, sheet):
    three(state)
    open_panel(sheet)
    slider = sheet.get_by_role("slider", name="Measured step")
    slider.wait_for()
    captions = sheet.locator(".pave-pair figcaption")
    wait(sheet, "the last step", lambda: captions.all_inner_texts() == ["step 0", "step 12"])
    wait(sheet, "its pictures", lambda: sheet.evaluate(WIDTHS) == [64, 76])
    slider.focus()
    for key, step in (("ArrowLeft", 8), ("ArrowLeft", 4), ("ArrowRight", 8), ("Home", 0), ("End", 12)):
        sheet.keyboard.press(key)
        wait(sheet, f"step {step}", lambda s=step: captions.all_inner_texts() == ["step 0", f"step {s}"])
        wait(sheet, "its picture", lambda s=step: sheet.evaluate(WIDTHS) == [64, 64 + s])
        assert slider.get_attribute("aria-valuetext") == f"step {step}"
    box = slider.bounding_box()
    sheet.mouse.click(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    wait(sheet, "by mouse", lambda: captions.all_inner_texts() == ["step 0", "step 4"])

    sheet.get_by_role("combobox", name="Prompt").select_option("1")
    wait(sheet, "another prompt", lambda: sheet.evaluate(WIDTHS) == [65, 69])
    assert sheet.locator(".pave-measured .pave-prompt").inner_text() == "a blue <b>star</b> on a light background"
    paths = [path for path in state.paths() if "/measured/" in path]
    assert len(paths) == len(set(paths)), "each is fetched once"


def test_the_slider_stays_with_a_new_measurement_and_goes_on_at_the_end(state, sheet):
    three(state)
    measured = state.details["live"]["measured"]
    open_panel(sheet)
    captions = sheet.locator(".pave-pair figcaption")
    wait(sheet, "the last step", lambda: captions.all_inner_texts() == ["step 0", "step 12"])
    measured["steps"] = [0, 4, 8, 12, 16]
    sheet.evaluate("tell('live')")
    wait(sheet, "the new one", lambda: captions.all_inner_texts() == ["step 0", "step 16"])
    sheet.get_by_role("slider").focus()
    sheet.keyboard.press("ArrowLeft")
    measured["steps"] = [0, 8, 12, 16, 20]
    sheet.evaluate("tell('live')")
    wait(sheet, "it is known", lambda: sheet.get_by_role("slider").get_attribute("max") == "4")
    sheet.wait_for_timeout(1200)
    assert captions.all_inner_texts() == ["step 0", "step 12"]
    measured["steps"] = [0]
    state.details["live"]["step"] = 13
    sheet.evaluate("tell('live')")
    sheet.get_by_text("step 13 of 40").wait_for()


def test_a_run_that_trains_is_looked_at_when_events_are_lost(state, sheet):
    three(state)
    sheet.evaluate("""() => {
        const begin = window.setInterval
        window.setInterval = (call, wait) => begin(call, wait / 10)
    }""")
    open_panel(sheet)
    sheet.get_by_text("step 12 of 40").wait_for()
    state.details["live"]["step"] = 13
    sheet.get_by_text("step 13 of 40").wait_for()
    state.details["live"] = detail("live", "finished", steps=14)
    sheet.get_by_text("step 14 of 40").wait_for()
    asked = len(state.asked)
    sheet.wait_for_timeout(2500)
    assert len(state.asked) - asked <= 2, "pictures, and no more once it has ended"
    state.live, state.runs[0] = None, listed("live")
    sheet.locator(".pave-back").click()
    wait(sheet, "the list is there", lambda: sheet.locator(".pave-badge").first.inner_text() == "finished")


def test_pictures_of_the_list_are_fetched_when_they_come_into_sight(state, sheet):
    state.runs = [listed(f"run {i}", picture="1") for i in range(60)]
    state.details = {run["name"]: detail(run["name"], "finished") for run in state.runs}
    open_panel(sheet)
    wait(
        sheet,
        "the first has its picture",
        lambda: sheet.locator(".pave-thumb img").first.evaluate("i => i.naturalWidth") == 64,
    )
    sheet.wait_for_timeout(500)
    first = sum("preview" in path for path in state.paths())
    assert 4 <= first < 40
    sheet.locator(".pave-item").last.scroll_into_view_if_needed()
    wait(
        sheet,
        "the last has its picture",
        lambda: sheet.locator(".pave-thumb img").last.evaluate("i => i.naturalWidth") == 64,
    )
    sheet.locator(".pave-row").last.click()
    sheet.get_by_role("heading", name="run 59").wait_for()
    assert sheet.evaluate("document.getElementById('sidebar').scrollTop") < 20
    sheet.locator(".pave-back").click()
    wait(sheet, "the list is back", lambda: sheet.locator(".pave-row").count() == 60)
    wait(sheet, "where it was", lambda: sheet.evaluate("document.activeElement.textContent").startswith("run 59"))
    assert sheet.locator(".pave-spark polyline").first.get_attribute("points").count(",") == 4


@pytest.mark.parametrize("name", ["dark", "light"])
@pytest.mark.parametrize("width", [300, 700])
def test_it_fits_and_looks_right(state, sheet, artifacts, name, width):
    """Pictures to look at."""
    three(state)
    long = "a_name_without_any_space_" * 4
    state.runs += [listed(long, "damaged", gain=None, reward=None, curve=[], picture=None, modified=time.time())]
    state.recipes["two"] |= {long: long}
    palette(sheet, name)
    sheet.set_viewport_size({"width": width, "height": 900})
    open_panel(sheet)
    slider = sheet.get_by_role("slider")
    slider.wait_for()
    slider.scroll_into_view_if_needed()
    sheet.screenshot(path=artifacts / f"panel_measured_{name}_{width}.png")
    sheet.evaluate("document.getElementById('sidebar').scrollTop = 0")
    assert overflow(sheet) == []
    sheet.locator(".pave-back").click()
    wait(sheet, "all are listed", lambda: sheet.locator(".pave-row").count() == 4)
    actions_of(sheet, "one").get_by_role("button", name="Delete ...").click()
    actions_of(sheet, "two").get_by_role("button", name="Recipe").click()
    sheet.get_by_role("textbox").wait_for()
    assert overflow(sheet) == []
    sheet.screenshot(path=artifacts / f"panel_actions_{name}_{width}.png")
    for run in ("one", "two"):
        sheet.get_by_role("checkbox", name=f"Compare {run}").check()
    sheet.get_by_role("button", name="Compare", exact=True).click()
    chart(sheet, "gain of two").locator(".u-over").wait_for()
    setting = sheet.locator(".pave-differences th", has_text="optim.learning_rate")
    assert setting.evaluate(LINES) == 1
    assert overflow(sheet) == []
    setting.scroll_into_view_if_needed()
    sheet.screenshot(path=artifacts / f"panel_compare_{name}_{width}.png", full_page=True)
