"""The help pages, their pictures and the texts for translators, against the schemas of the real server."""

import json
import re
from pathlib import Path

import pytest

from make_help import (
    DOCS,
    NODE_DEFS,
    inputs_of,
    node_defs,
    our_nodes,
    outputs_of,
    pages,
    with_table,
)

PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
LARGEST_PICTURE = 64_000


@pytest.fixture
def info(client):
    """The host's /object_info."""
    return client.object_info()


def text_of(name: str) -> str:
    file = DOCS / f"{name}.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def code_spans(text: str) -> set[str]:
    """What stands in backticks, without the blocks of code."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)))


def pictures(text: str) -> list[Path]:
    """The files that a page shows; the page's own folder is what the front end resolves their addresses against."""
    return [DOCS / address for address in PICTURE.findall(text)]


def test_every_node_has_a_page_with_its_name_as_the_title(info):
    titles = {name: text_of(name).partition("\n")[0] for name in our_nodes(info)}
    assert titles
    assert titles == {name: f"# {info[name]['display_name']}" for name in titles}


def test_no_page_is_of_a_node_that_is_no_more(info):
    assert {file.stem for file in DOCS.glob("*.md")} - set(our_nodes(info)) == set()


def test_every_input_and_output_is_explained(info):
    missing = {}
    for name in our_nodes(info):
        sockets = {*inputs_of(info[name]), *(output for output, _ in outputs_of(info[name]))}
        if unexplained := sockets - code_spans(text_of(name)):
            missing[name] = sorted(unexplained)
    assert missing == {}


def test_every_page_shows_the_picture_of_its_node(info):
    for name in our_nodes(info):
        assert pictures(text_of(name)) == [DOCS / "images" / f"{name}.png"]
        picture = (DOCS / "images" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) <= LARGEST_PICTURE


def test_no_picture_is_of_a_node_that_is_no_more(info):
    assert {file.stem for file in DOCS.glob("images/*")} - set(our_nodes(info)) == set()


def test_the_texts_for_translators_are_those_of_the_schemas(info):
    assert json.loads(NODE_DEFS.read_text(encoding="utf-8")) == node_defs(info), "run: python tools/make_help.py"


def test_the_pages_have_the_tables_of_the_settings_and_of_the_presets(client, info):
    presets = json.loads(client.get("/pave/presets"))["PaveTrain"]
    for file, text in pages(info, presets).items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run: python tools/make_help.py"


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="the marks .* are not there"):
        with_table("no table", "| a |\n")


def test_the_host_gives_the_texts_to_the_page(client):
    served = json.loads(client.get("/i18n"))["en"]["nodeDefs"]
    ours = json.loads(NODE_DEFS.read_text(encoding="utf-8"))
    assert {name: served.get(name) for name in ours} == ours


def test_a_message_escapes_what_the_page_would_interpret():
    node = {
        "display_name": "a | b",
        "description": "",
        "input": {"required": {"x.y": ["INT", {"tooltip": "{0} or a@b"}]}},
        "output_name": [],
        "output_tooltips": [],
    }
    made = node_defs({"PaveX": node, "Other": node})
    assert made == {
        "PaveX": {"display_name": "a {'|'} b", "inputs": {"x_y": {"name": "x.y", "tooltip": "{'{'}0{'}'} or a{'@'}b"}}}
    }
