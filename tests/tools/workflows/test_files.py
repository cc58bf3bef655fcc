"""The files of the workflows for real models: what the page's list of missing models shows of them."""

import json
from urllib.parse import urlparse

import pytest

from _workflows.files import PLACES
from _workflows.names import file_of
from _workflows.on_host import MODEL_FILES
from _workflows.real_models import REAL_MODELS


@pytest.mark.parametrize("name", REAL_MODELS)
def test_every_file_has_its_name_address_and_folder(name):
    text = file_of(name).read_text("utf-8")
    nodes = json.loads(text)["nodes"]
    named = {
        value
        for node in nodes
        if not node["type"].startswith(("PaveSave", "Markdown"))
        for value in node.get("widgets_values") or []
        if isinstance(value, str) and value.endswith(MODEL_FILES)
    }
    said = {model["name"]: model for node in nodes for model in node["properties"].get("models", [])}
    assert named == said.keys()
    (note,) = (node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    for file, model in said.items():
        address = urlparse(model["url"])
        assert (address.scheme, address.netloc) == ("https", "huggingface.co")
        assert address.path.rsplit("/", 1)[1] == file, "the name that it has when it has been fetched"
        assert model["directory"] == PLACES[file][0]
        assert f"[{file}]({model['url']})" in note


def test_a_file_has_one_name_everywhere(root):
    """In the README's table of rewards and in the messages, as in the workflows."""
    readme = (root / "README.md").read_text("utf-8")
    for file, (folder, _) in PLACES.items():
        if folder == "reward_models":
            assert f"`{file}`" in readme
