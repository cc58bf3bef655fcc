"""The panel's page in a real Chromium, against answers that the tests make: no ComfyUI runs here."""

import time
from typing import Any
from urllib.parse import quote

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
from _panel_server import EXTENSION, PanelServer

__all__ = ["opened", "sheet", "state"]  # fixtures
pytestmark = pytest.mark.browser


def columns(*values: list[Any]) -> list[list[str]]:
    """The rows of a table of these columns, as the page writes numbers."""
    return [["–" if v is None else str(v) if isinstance(v, str) else f"{v:.6g}" for v in row] for row in zip(*values)]


def hover(page: Any, key: str, share: float) -> None:
    """Put the pointer onto this share of the width of a chart's plot."""
    over = chart(page, key).locator(".u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def legend(page: Any, key: str) -> str:
    return " ".join(" ".join(chart(page, key).locator(".pave-legend span").all_inner_texts()).split())


def one_run(state: PanelServer, **more: Any) -> dict[str, Any]:
    """A run that trains, and nothing else."""
    state.live, state.runs = "live", [listed("live", "training")]
    state.details["live"] = detail("live", **more)
    return state.details["live"]


# The list


def test_without_runs_it_says_how_to_begin(state, sheet):
    open_panel(sheet)
    sheet.get_by_text("There are no runs yet: open the template quickstart").wait_for()


def test_a_click_opens_a_run_and_the_button_leads_back_to_it(state, sheet):
    state.runs = [listed("new"), listed("old", "stopped", gain=None, steps=None, megabytes=1234.5)]
    state.details["old"] = detail("old", "stopped")
    open_panel(sheet)
    rows = sheet.locator(".pave-row")
    wait(sheet, "both are listed", lambda: rows.count() == 2)
    first, second = (" ".join(text.split()) for text in rows.all_inner_texts())
    assert first == "new finished step 12 of 40 reward 0.932 gain +0.0213 ± 0.0041 12.3 MB 2 h ago"
    assert second == "old stopped, can be resumed step 12 reward 0.932 1.23 GB 2 h ago"

    rows.nth(1).click()
    sheet.get_by_role("heading", name="old").wait_for()
    sheet.get_by_text("stopped, can be resumed").wait_for()
    assert sheet.evaluate("document.activeElement.textContent") == "← All runs"

    sheet.keyboard.press("Enter")
    wait(sheet, "the list is back", lambda: rows.count() == 2)
    assert sheet.evaluate("document.activeElement.textContent").startswith("old"), "the focus is where it was"
    for _ in range(3):  # past the actions of "new", and its box
        sheet.keyboard.press("Shift+Tab")
    sheet.keyboard.press("Enter")
    sheet.get_by_role("heading", name="new").wait_for()


def test_a_run_that_begins_while_the_list_is_shown_opens_by_itself(state, sheet):
    state.runs = [listed("old")]
    open_panel(sheet)
    wait(sheet, "the list is there", lambda: sheet.locator(".pave-name").all_inner_texts() == ["old"])
    state.live = "live"
    state.runs = [listed("live", "training"), listed("old")]
    state.details["live"] = detail("live")
    sheet.evaluate("tell('live')")
    sheet.get_by_role("heading", name="live").wait_for()


def test_the_live_run_opens_by_itself_and_is_the_first_of_the_list(state, sheet):
    state.live = "live"
    state.runs = [listed("newer"), listed("live", "training")]
    state.details["live"] = detail("live")
    open_panel(sheet)
    sheet.get_by_role("heading", name="live").wait_for()
    sheet.get_by_role("button", name="All runs").click()
    names = sheet.locator(".pave-name")
    wait(sheet, "the list is there", lambda: names.all_inner_texts() == ["live", "newer"])
    sheet.wait_for_timeout(300)
    assert names.all_inner_texts() == ["live", "newer"], "who has gone back by hand stays there"


def test_names_and_messages_are_text(state, sheet):
    state.runs = [listed(HOSTILE)]
    rewards = {HOSTILE: {"reward": [1.0, 2.0], "spread": [0.1, 0.1]}, "b": {"reward": [1.0, 2.0], "spread": [0, 0]}}
    run = detail(HOSTILE, "finished", steps=2, message=HOSTILE, rewards=rewards)
    run["seconds"] = {HOSTILE: [1.0, 2.0]}
    run["guard"][1]["alarms"] = [HOSTILE]
    state.details[HOSTILE] = run
    open_panel(sheet)
    sheet.locator(".pave-row").click()
    wait(sheet, "the charts are there", lambda: chart(sheet, "guard").count())
    table(sheet, "seconds")
    table(sheet, "guard")
    assert sheet.get_by_text(HOSTILE, exact=False).count() >= 5
    assert sheet.evaluate("window.hit") is None
    assert sheet.locator(".pave-panel b").count() == 0
    assert f"/pave/runs/{quote(HOSTILE, safe='')}" in [path.replace("!", "%21") for path in state.paths()]


# A run


def test_where_a_run_stands_is_told_in_words(state, sheet):
    one_run(state)
    open_panel(sheet)
    sheet.get_by_text("step 12 of 40").wait_for()
    text = sheet.locator(".pave-run").inner_text()
    for said in ("about 3 min left", "4.2 s a step", "measuring 80 of 160", "the checkpoint of step 12 is kept"):
        assert said in text
    bars = sheet.get_by_role("progressbar")
    assert bars.evaluate_all("bars => bars.map(bar => [bar.ariaValueNow, bar.ariaValueMax])") == [
        ["12", "40"],
        ["80", "160"],
    ]
    sheet.get_by_text("step 8: drift is above 0.02").wait_for()
    image = sheet.locator(".pave-picture img")
    wait(sheet, "the picture is shown", lambda: image.evaluate("image => image.naturalWidth") == 320)


def test_the_tables_have_the_numbers_that_the_server_gave(state, sheet):
    run = one_run(state)
    open_panel(sheet)
    chart(sheet, "guard").wait_for()
    steps, curves = run["steps_done"], run["curves"]
    evaluations, guard = run["evaluations"], run["guard"]

    head, *rows = table(sheet, "gain")
    assert head == ["step", "gain", "± standard error", "judge"]
    assert rows == columns(*([each[key] for each in evaluations] for key in ("step", "gain", "se", "judge")))

    head, *rows = table(sheet, "reward")
    assert head == ["step", "reward", "spread"]
    assert rows == columns(steps, curves["reward"], curves["spread"])

    for name, each in run["rewards"].items():
        assert table(sheet, f"reward {name}")[1:] == columns(steps, each["reward"], each["spread"])
    assert table(sheet, "gradient")[1:] == columns(steps, curves["gradient"], curves["learning rate"])

    head, *rows = table(sheet, "seconds")
    assert head == ["step", *run["seconds"]]
    assert rows == columns(steps, *run["seconds"].values())

    alarms = [", ".join(each["alarms"]) or "–" for each in guard]
    expected = columns(*([each[key] for each in guard] for key in ("step", "held_out", "drift")), alarms)
    assert table(sheet, "guard")[1:] == expected


def test_a_table_is_one_for_a_screen_reader_and_the_keyboard(state, sheet):
    one_run(state)
    open_panel(sheet)
    image = chart(sheet, "gain").get_by_role("img")
    image.wait_for()
    words = image.get_attribute("aria-label")
    assert "Gain on held-out prompts, steps 0 to 12" in words
    assert "gain: last 0.0213, lowest 0, highest 0.0213" in words

    button = sheet.get_by_role("button", name="Table: Gain on held-out prompts")
    button.focus()
    sheet.keyboard.press("Enter")
    shown = sheet.get_by_role("table", name="Gain on held-out prompts")
    shown.wait_for()
    assert shown.locator("thead th[scope=col]").count() == 4
    assert shown.locator("tbody th[scope=row]").count() == 4
    assert image.count() == 0
    sheet.keyboard.press("Enter")
    image.wait_for()
    assert shown.count() == 0


def test_the_pointer_shows_the_values_of_its_step(state, sheet):
    run = one_run(state)
    open_panel(sheet)
    chart(sheet, "gain").locator(".u-over").wait_for()
    assert legend(sheet, "gain") == "step 12 gain 0.0213 ± 0.0041 judge (right) 0.19", "the last, without a pointer"
    hover(sheet, "gain", 0.34)
    wait(sheet, "step 4", lambda: legend(sheet, "gain") == "step 4 gain 0.008 ± 0.006 judge (right) 0.11")
    hover(sheet, "gain", 0.66)
    wait(sheet, "step 8, of no judge", lambda: legend(sheet, "gain") == "step 8 gain 0.017 ± 0.005 judge (right) –")
    hover(sheet, "seconds", 0.99)
    values = " ".join(f"{name} {run['seconds'][name][11]:.4g}" for name in run["seconds"])
    wait(sheet, "what is told is the phase, not the height", lambda: legend(sheet, "seconds") == f"step 12 {values}")
    hover(sheet, "reward", 0.45)
    wait(sheet, "a gap", lambda: legend(sheet, "reward") == "step 6 reward – spread (right) –")


COLUMN = """([canvas, x, top, bottom]) => {  // how many pixels of a column are painted in a strong colour
    const scale = canvas.width / canvas.getBoundingClientRect().width
    const context = canvas.getContext("2d")
    const height = Math.round((bottom - top) * scale)
    const { data } = context.getImageData(Math.round(x * scale), Math.round(top * scale), 1, height)
    let count = 0
    for (let i = 0; i < data.length; i += 4) {
        const [r, g, b, a] = data.slice(i, i + 4)
        if (a > 120 && Math.max(r, g, b) - Math.min(r, g, b) > 60) count += 1
    }
    return count / scale
}"""


def painted(page: Any, key: str, x: float, below: float = 0.0) -> float:
    """How many px of the plot are painted at this x, counted from its left, from `below` on, counted from its top."""
    over, canvas = chart(page, key).locator(".u-over"), chart(page, key).locator("canvas")
    inner, outer = over.bounding_box(), canvas.bounding_box()
    top = inner["y"] - outer["y"]
    where = [canvas.element_handle(), inner["x"] - outer["x"] + x, top + below, top + inner["height"]]
    return page.evaluate(COLUMN, where)


def test_the_gain_has_error_bars_and_nothing_is_drawn_over_a_gap(state, sheet):
    run = one_run(state)
    for each in run["evaluations"]:
        each["judge"] = None
    run["curves"]["spread"] = [None] * 12
    open_panel(sheet)
    chart(sheet, "reward").locator(".u-over").wait_for()
    sheet.wait_for_timeout(100)  # a frame, to draw
    width = chart(sheet, "gain").locator(".u-over").bounding_box()["width"]
    place = width * (8 + 0.24) / 12.48  # steps 0 to 12, with 2 % air on both sides
    bar = painted(sheet, "gain", place)
    height = chart(sheet, "gain").locator(".u-over").bounding_box()["height"]
    span = 0.0213 + 0.0041 - 0.0  # of the lowest (0) and the highest end, with 8 % air on both sides
    assert bar == pytest.approx(height * 2 * 0.005 / (span * 1.16), abs=8)
    assert painted(sheet, "gain", place + 9) < 8, "the line alone"

    width = chart(sheet, "reward").locator(".u-over").bounding_box()["width"]
    at = lambda step: width * (step - 1 + 0.22) / 11.44  # noqa: E731  steps 1 to 12, with 2 % air on both sides
    assert painted(sheet, "reward", at(3.5)) > 0
    assert painted(sheet, "reward", at(5.5)) == painted(sheet, "reward", at(6.5)) == 0


def test_a_value_between_gaps_is_seen(state, sheet):
    run = one_run(state)
    run["steps_done"] = list(range(1, 401))
    run["curves"] = {"reward": [None] * 400, "spread": [None] * 400, "gradient": [None] * 400, "learning rate": []}
    run["curves"]["reward"][199] = 1.0
    run["rewards"], run["seconds"] = {}, {}
    open_panel(sheet)
    chart(sheet, "reward").locator(".u-over").wait_for()
    sheet.wait_for_timeout(100)
    width = chart(sheet, "reward").locator(".u-over").bounding_box()["width"]
    assert painted(sheet, "reward", width * (199 + 7.98) / 414.96) > 2


def test_steps_are_whole_numbers_and_small_rates_are_not_zero(state, sheet):
    """What is written on a canvas is caught on its way there."""
    sheet.evaluate("""() => {
        window.written = []
        const write = CanvasRenderingContext2D.prototype.fillText
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
            window.written.push(String(text))
            return write.call(this, text, ...rest)
        }
    }""")
    run = one_run(state, steps=2)
    run.update(evaluations=[], guard=[], rewards={}, seconds={})
    run["curves"].update({"reward": [None, None], "spread": [None, None], "gradient": [0.0001, 0.0002]})
    run["curves"]["learning rate"] = [1e-6, 2e-6]
    open_panel(sheet)
    chart(sheet, "gradient").locator(".u-over").wait_for()
    wait(sheet, "it is drawn", lambda: sheet.evaluate("written.length") > 5)
    written = set(sheet.evaluate("written"))
    assert {"1", "2"} <= written
    assert not {"1.5", "0.5", "0.000"} & written
    assert any(text in written for text in ("0.0001", "0.00010")), written
    assert any(float(text) == 1e-6 for text in written), written


def test_a_run_without_numbers_and_one_that_is_gone(state, sheet):
    empty = {"curves": {}, "rewards": {}, "seconds": {}, "evaluations": [], "guard": [], "pictures": []}
    state.live, state.runs = "live", [listed("live", "training"), listed("gone")]
    state.details["live"] = detail("live", steps=0, message=None, **empty) | {"seconds_left": None, "steps": None}
    open_panel(sheet)
    sheet.get_by_text("The curves come with the first step.").wait_for()
    assert sheet.get_by_role("progressbar").count() == 1, "without a length there is only the phase's"
    sheet.get_by_role("button", name="All runs").click()
    sheet.locator(".pave-row").nth(1).click()
    sheet.get_by_text("there is no run gone").wait_for()
    asked = len(state.asked)
    sheet.wait_for_timeout(300)
    assert len(state.asked) == asked, "it is not asked for again"


# News, and a server that is slow or away


def test_news_are_fetched_at_most_once_a_second(state, sheet):
    run = one_run(state)
    open_panel(sheet)
    sheet.get_by_text("step 12 of 40").wait_for()
    state.asked.clear()
    for step in range(13, 21):
        run["step"] = step
        sheet.evaluate("tell('live'); tell('another')")
        sheet.wait_for_timeout(150)
    sheet.get_by_text("step 20 of 40").wait_for()
    times = [at for at, path in state.asked if path == "/pave/runs/live"]
    assert 2 <= len(times) <= 4
    assert min(b - a for a, b in zip(times, times[1:])) > 0.9
    sheet.evaluate("tell('another')")
    sheet.wait_for_timeout(300)
    assert state.paths().count("/pave/runs/live") == len(times), "another run's news are not this one's"


def test_new_numbers_keep_the_focus_the_table_and_the_place(state, sheet):
    run = one_run(state)
    open_panel(sheet)
    chart(sheet, "reward").wait_for()
    table(sheet, "reward")
    button = sheet.get_by_role("button", name="Table: Reward and spread")
    button.focus()
    scrolled = sheet.evaluate("document.getElementById('sidebar').scrollTop")
    new = detail("live", steps=13)
    run.update(new)
    sheet.evaluate("tell('live')")
    sheet.get_by_text("step 13 of 40").wait_for()
    assert table(sheet, "reward")[-1] == columns([13], [new["curves"]["reward"][-1]], [0.037])[0]
    assert sheet.evaluate("document.activeElement.ariaLabel") == "Table: Reward and spread"
    assert sheet.evaluate("document.getElementById('sidebar').scrollTop") == scrolled
    assert legend(sheet, "gradient").startswith("step 13")


def test_a_server_that_is_away_is_said_so_and_tried_again(state, sheet):
    one_run(state)
    state.away = True
    open_panel(sheet)
    said = sheet.locator(".pave-trouble", has_text="The server does not answer")
    said.wait_for()
    state.away = False
    sheet.get_by_text("step 12 of 40").wait_for()
    assert said.count() == 0 or not said.is_visible()

    state.away = True
    sheet.evaluate("tell('live')")
    said.wait_for()
    assert sheet.get_by_text("step 12 of 40").is_visible(), "what was known stays"
    state.away, state.details["live"]["step"] = False, 14
    sheet.get_by_text("step 14 of 40").wait_for()
    assert not said.is_visible()


def test_an_older_answer_never_replaces_a_newer_one(state, sheet):
    state.runs = [listed("slow"), listed("fast")]
    state.details = {"slow": detail("slow", "finished"), "fast": detail("fast", "finished", steps=3)}
    open_panel(sheet)
    sheet.locator(".pave-row").first.wait_for()
    state.delays.append(0.5)
    sheet.locator(".pave-row").nth(0).click()
    wait(sheet, "the slow one is asked for", lambda: "/pave/runs/slow" in state.paths())
    sheet.get_by_role("button", name="All runs").click()
    sheet.locator(".pave-row").nth(1).click()
    sheet.get_by_text("step 3 of 40").wait_for()
    sheet.wait_for_timeout(600)
    assert sheet.get_by_role("heading", level=2).inner_text() == "fast"
    assert sheet.get_by_text("step 3 of 40").is_visible()

    # The same run: an answer that is on its way when there is news is followed by a newer one.
    state.delays.append(0.4)
    sheet.evaluate("tell('fast')")
    before = len(state.asked)
    wait(sheet, "it is asked for", lambda: len(state.asked) > before)
    state.details["fast"] = detail("fast", "finished", steps=5)
    sheet.evaluate("tell('fast')")
    sheet.get_by_text("step 5 of 40").wait_for()
    sheet.wait_for_timeout(300)
    assert sheet.get_by_text("step 5 of 40").is_visible()


def test_nothing_is_asked_for_while_it_is_not_shown(state, sheet):
    run = one_run(state)
    open_panel(sheet)
    sheet.get_by_text("step 12 of 40").wait_for()
    sheet.evaluate("document.getElementById('sidebar').style.display = 'none'")
    sheet.wait_for_timeout(100)
    state.asked.clear()
    run["step"] = 20
    sheet.evaluate("tell('live')")
    sheet.wait_for_timeout(1200)
    assert state.asked == []
    sheet.evaluate("document.getElementById('sidebar').style.display = ''")
    sheet.get_by_text("step 20 of 40").wait_for()


# The container


COUNT_WHAT_IS_HELD = """() => {
    window.held = {timers: new Set(), listeners: 0, observers: 0}
    for (const [set, clear] of [["setTimeout", "clearTimeout"], ["setInterval", "clearInterval"]]) {
        const [begin, end] = [window[set], window[clear]]
        window[set] = (call, ...rest) => {
            const id = begin(() => { if (set === "setTimeout") held.timers.delete(id); call() }, ...rest)
            held.timers.add(id)
            return id
        }
        window[clear] = id => { held.timers.delete(id); end(id) }
    }
    for (const target of [window, document]) {
        const [add, remove] = [target.addEventListener, target.removeEventListener]
        target.addEventListener = (...all) => { held.listeners += 1; return add.apply(target, all) }
        target.removeEventListener = (...all) => { held.listeners -= 1; return remove.apply(target, all) }
    }
    for (const name of ["ResizeObserver", "MutationObserver"]) {
        window[name] = class extends window[name] {
            constructor(call) { super(call); held.observers += 1 }
            disconnect() { super.disconnect(); held.observers -= 1 }
        }
    }
}"""
HELD = "() => [held.timers.size, held.listeners, held.observers, listeners.size]"


def test_unmounting_leaves_nothing_and_it_can_be_mounted_again(state, sheet):
    one_run(state)
    sheet.evaluate(COUNT_WHAT_IS_HELD)
    for _ in range(2):
        open_panel(sheet)
        chart(sheet, "guard").locator(".u-over").wait_for()
        table(sheet, "guard")
        chart(sheet, "guard").get_by_role("button").click()
        assert min(sheet.evaluate(HELD)) > 0, "the count sees them"
        sheet.get_by_role("button", name="All runs").click()
        sheet.locator(".pave-row").click()
        chart(sheet, "guard").locator(".u-over").wait_for()
        sheet.evaluate("tell('live'); close_panel()")
        assert sheet.evaluate(HELD) == [0, 0, 0, 0]
        assert sheet.locator("#sidebar").inner_html() == ""
    asked = len(state.asked)
    sheet.wait_for_timeout(1100)
    assert len(state.asked) == asked


def test_mounted_before_its_container_is_in_the_page(state, sheet):
    """So ComfyUI 0.3.75 does it."""
    one_run(state)
    sheet.evaluate("""() => {
        const sidebar = document.getElementById("sidebar"), { parentNode } = sidebar
        const find = document.getElementById
        document.getElementById = () => sidebar
        sidebar.remove()
        open_panel()
        document.getElementById = find
        setTimeout(() => parentNode.append(sidebar), 50)
    }""")
    sheet.get_by_role("heading", name="live").wait_for()
    chart(sheet, "guard").locator(".u-over").wait_for()


def test_unmounted_while_an_answer_is_on_its_way(state, sheet):
    one_run(state)
    state.delays.append(0.3)
    sheet.evaluate("open_panel()")
    wait(sheet, "it is asked for", lambda: state.asked)
    sheet.evaluate("close_panel()")
    sheet.wait_for_timeout(400)
    assert sheet.locator("#sidebar").inner_html() == ""
    open_panel(sheet)
    sheet.get_by_role("heading", name="live").wait_for()


@pytest.mark.parametrize("width", [300, 700])
def test_it_fits_a_sidebar(state, sheet, width):
    long = "a_name_without_any_space_" * 5
    one_run(state, message=long)
    state.runs.append(listed(long, "begun"))
    open_panel(sheet)
    chart(sheet, "guard").locator(".u-over").wait_for()
    sheet.set_viewport_size({"width": width, "height": 900})
    room = sheet.evaluate("document.getElementById('sidebar').clientWidth")
    plot = chart(sheet, "gain").locator(".uplot")
    wait(sheet, "charts follow the width", lambda: room - 60 < plot.bounding_box()["width"] < room)
    for key in ("gain", "seconds", "guard"):
        table(sheet, key)
    assert overflow(sheet) == []
    sheet.get_by_role("button", name="All runs").click()
    wait(sheet, "both are listed", lambda: sheet.locator(".pave-row").count() == 2)
    assert overflow(sheet) == []


@pytest.mark.parametrize("name", ["dark", "light"])
def test_it_takes_the_colours_of_the_host(state, sheet, artifacts, name):
    """Pictures of the run and of the list, to look at."""
    one_run(state)
    state.runs += [
        listed("quickstart_00003", modified=time.time() - 400),
        listed("portrait_colour_00001", "stopped", gain=[-0.0031, 0.005], step=7),
        listed("begun_00001", "begun", gain=None, step=0, megabytes=0.02, modified=time.time() - 3 * 86400),
        listed("broken_00001", "damaged", gain=None, modified=time.time() - 90 * 86400),
    ]
    other = "light" if name == "dark" else "dark"
    palette(sheet, other)
    sheet.set_viewport_size({"width": 420, "height": 2150})
    open_panel(sheet)
    chart(sheet, "guard").locator(".u-over").wait_for()
    line = chart(sheet, "gain").locator(".pave-mark").first
    before = line.evaluate("mark => mark.style.color")
    palette(sheet, name)
    wait(sheet, "the colours follow the palette", lambda: line.evaluate("mark => mark.style.color") != before)
    assert painted(sheet, "gain", 60) > 0
    hover(sheet, "reward", 0.3)
    sheet.locator(".pave-picture img").scroll_into_view_if_needed()
    sheet.wait_for_timeout(400)  # bars slide to their length
    sheet.screenshot(path=artifacts / f"panel_run_{name}.png")
    table(sheet, "gain")
    sheet.get_by_role("button", name="All runs").focus()
    sheet.set_viewport_size({"width": 300, "height": 900})
    sheet.wait_for_timeout(150)
    sheet.screenshot(path=artifacts / f"panel_narrow_{name}.png")
    sheet.set_viewport_size({"width": 420, "height": 620})
    sheet.get_by_role("button", name="All runs").click()
    wait(sheet, "the list is there", lambda: sheet.locator(".pave-row").count() == 5)
    sheet.screenshot(path=artifacts / f"panel_list_{name}.png")


# The host


def test_the_host_gets_one_tab_and_every_module_only_waits(opened, state):
    one_run(state)
    page = opened
    page.problems.clear()
    page.goto(f"{state.url}/bare")
    before = page.content()
    folder = f"{EXTENSION}panel"
    modules = ["mount", "panel", "run", "runs", "card", "charts", "table", "models", "feed", "theme", "words", "dom"]
    modules += ["actions", "compare", "editor", "measured", "spark", "widgets"]
    for module in [*modules, "badge", "vendor/uPlot.esm"]:
        page.evaluate("address => import(address).then(() => null)", f"{folder}/{module}.js")
    assert page.content() == before
    assert state.asked == []

    page.evaluate("app.extensions.forEach(extension => extension.setup())")
    tabs = page.evaluate("app.tabs.map(tab => [tab.id, tab.icon, tab.title, tab.type])")
    assert tabs == [["pave", "pi pi-chart-line", "Pave-GRPO", "custom"]]
    page.evaluate("() => { window.place = document.body.appendChild(document.createElement('div')) }")
    page.evaluate("app.tabs[0].render(place); app.tabs[0].render(place)")
    page.get_by_text("step 12 of 40").wait_for()
    assert page.locator(".pave-panel").count() == 1
    asked = [path for path in page.evaluate("api.asked") if path.startswith("/pave/runs")]
    assert asked[:2] == ["/pave/runs", "/pave/runs/live"]
    state.details["live"]["step"] = 13
    page.evaluate("api.dispatchEvent(new CustomEvent('pave.run', {detail: {name: 'live'}}))")
    page.get_by_text("step 13 of 40").wait_for()
    page.evaluate("app.tabs[0].destroy()")
    assert page.locator(".pave-panel").count() == 0
    page.evaluate("app.tabs[0].destroy(); app.tabs[0].render(place)")
    page.get_by_text("step 13 of 40").wait_for()
    assert page.problems == []


def test_groups_are_seen_where_steps_are_quicker_than_their_images(state, sheet):
    state.slow = 2.5
    state.live, state.runs = "quick", [listed("quick", "training")]
    state.details["quick"] = detail("quick", group=1)
    open_panel(sheet)
    title = sheet.locator(".pave-group h3")

    def shown():
        state.details["quick"]["group"] += 1
        sheet.evaluate("tell('quick')")
        return title.inner_text() != "" and int(title.inner_text().split()[-1])

    first = wait(sheet, "a group is shown", shown)
    wait(sheet, "a later one is shown", lambda: shown() > first)
