"""A template of ours that names a LoRA opens with the one that was trained last; what a person saved, as it was."""

import pytest

from _host.browser import load_workflow, nodes_2, until
from _workflows.names import file_of

pytestmark = pytest.mark.browser

NAMES = """() => app.graph.nodes.filter(n => ["LoraLoaderModelOnly", "PaveLoRARecipe"].includes(n.type))
    .map(n => n.widgets.find(w => w.name.startsWith("lora")).value)"""


@pytest.fixture
def loras(page, server):
    """LoRAs as Pave Save LoRA numbers them, and others that are called alike. They are empty: nobody loads them."""
    folder = server.output / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    names = ["quickstart", "quickstart_2", "quickstart_10", "quickstart_9", "quickstart_x", "quickstart_taste_77"]
    files = [folder / f"{name}.safetensors" for name in names]
    made = [file for file in files if not file.exists()]
    for file in made:
        file.touch()
    page.evaluate("app.refreshComboInNodes()")
    yield
    for file in made:
        file.unlink()
    page.evaluate("app.refreshComboInNodes()")


@pytest.mark.parametrize("newer", [False, True], ids=["canvas", "Nodes 2.0"])
def test_it_opens_with_the_newest(page, loras, newer):
    file = file_of("generate_with_lora")
    newest = ["quickstart_10.safetensors"] * 2
    if newer:
        load_workflow(page, file)
        with nodes_2(page):
            shown = page.get_by_text("quickstart_10.safetensors")
            until(page, "it is shown", lambda: shown.count() >= 2)
    else:
        load_workflow(page, file)
    until(page, "the newest is chosen", lambda: page.evaluate(NAMES) == newest)
    saved = page.evaluate("() => app.graph.serialize()")
    for node in saved["nodes"]:
        if node["type"] == "LoraLoaderModelOnly":
            node["widgets_values"][0] = "quickstart_2.safetensors"
    page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    until(page, "it is open", lambda: "quickstart_2.safetensors" in page.evaluate(NAMES))
    assert sorted(page.evaluate(NAMES)) == ["quickstart_10.safetensors", "quickstart_2.safetensors"]
