"""What Nodes 2.0 shows of Pave Train is what its widgets hold, which is what is sent: typed numbers, presets, small
numbers.
"""

import json
import re

import pytest
from playwright.sync_api import expect

from _host.browser import PATIENCE, export_prompt, load_workflow, nodes_2, until
from _host_differences import NUMBER_FIELD, UNFOLD
from _workflows.names import api_file_of, file_of

pytestmark = pytest.mark.browser

QUICKSTART = file_of("quickstart")
PATIENT = PATIENCE * 1000  # milliseconds
INTO_VIEW = """() => {
    const node = app.graph.nodes.find(n => n.type === 'PaveTrain')
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [300 - node.pos[0], 100 - node.pos[1]]
    app.canvas.draw(true, true)
    return node.id
}"""


def saved(name: str):
    """The value of an input of the quickstart's Pave Train."""
    nodes = json.loads(api_file_of("quickstart").read_text("utf-8")).values()
    return next(node["inputs"][name] for node in nodes if node["class_type"] == "PaveTrain")


@pytest.fixture
def train(page):
    """Pave Train of the quickstart, as Nodes 2.0 draws it."""
    with nodes_2(page):
        load_workflow(page, QUICKSTART)
        node = page.locator(f"[data-node-id='{page.evaluate(INTO_VIEW)}']")
        expect(field(node, "iterations")).to_have_value(str(saved("iterations")), timeout=PATIENT)
        unfold = node.get_by_text(UNFOLD)
        if unfold.count():
            until(page, "all settings are shown", lambda: field(node, "weight_decay").count() == 1, unfold.click)
        yield node


def field(node, name: str):
    """The input of a number."""
    return node.locator(NUMBER_FIELD.format(name=name))


def type_number(page, node, name: str, text: str) -> None:
    shown = field(node, name)

    def type_it() -> None:
        shown.focus()
        shown.press("Control+a")
        shown.press_sequentially(text)
        shown.press("Tab")

    until(page, f"{name} shows {text}", lambda: shown.input_value() == text, type_it)


def choose(page, node, name: str) -> None:
    drop_down = node.get_by_role("combobox").first

    def choose_it() -> None:
        drop_down.click()
        page.get_by_role("option", name=name).click()

    until(page, f"preset {name} is chosen", lambda: drop_down.inner_text().strip() == name, choose_it)


def sent(page) -> dict:
    """The inputs of Pave Train as the page would send them."""
    return next(node["inputs"] for node in export_prompt(page).values() if node["class_type"] == "PaveTrain")


def shows(value: float) -> re.Pattern[str]:
    """How a field shows a number: whole, with any zeros behind it."""
    whole, _, rest = f"{value:.10f}".rstrip("0").partition(".")
    return re.compile(rf"^{whole}\.{rest}0*$" if rest else rf"^{whole}(\.0*)?$")


def assert_shown_is_sent(page, node) -> None:
    for name, value in sent(page).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            expect(field(node, name)).to_have_value(shows(value))


def test_a_typed_number_is_sent_and_keeps_the_preset(page, train):
    type_number(page, train, "iterations", "7")
    expect(train.get_by_role("combobox").first).to_have_text("quick", timeout=PATIENT)
    assert (sent(page)["preset"], sent(page)["iterations"]) == ("quick", 7)
    assert_shown_is_sent(page, train)


@pytest.mark.parametrize("name", ["pave (released code)", "quick"])
def test_a_chosen_preset_is_shown_in_the_fields_and_sent(page, train, client, name):
    choose(page, train, "fast")
    type_number(page, train, "rank", "3")
    choose(page, train, name)
    preset = json.loads(client.get("/pave/presets"))["PaveTrain"][name]
    expect(field(train, "iterations")).to_have_value(str(preset["iterations"]), timeout=PATIENT)
    expect(field(train, "rank")).to_have_value(str(preset["rank"]), timeout=PATIENT)
    assert {key: sent(page)[key] for key in preset} == preset
    assert_shown_is_sent(page, train)


def test_small_numbers_are_shown_whole(train):
    expect(field(train, "learning_rate")).to_have_value(shows(saved("learning_rate")))
    expect(field(train, "weight_decay")).to_have_value(shows(saved("weight_decay")))
