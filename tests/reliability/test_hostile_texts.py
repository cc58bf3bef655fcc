"""Texts of strangers in the page: nothing of them is executed, and nothing is loaded from where they point.

A LoRA's recipe through Pave LoRA Recipe and Preview as Text, prompts and reward names through the other texts of ours,
and values in the errors of nodes. The server that the texts point to counts who asks.
"""

import http.server
import json
import threading

import pytest
import torch
from safetensors.torch import save_file

from _editor import PACK
from _host.browser import nodes_2, until
from _judge_server import Server
from _judging import another_page, judge_node, scoring
from _training_graphs import node, with_settings
from pave_core.config.train import TrainConfig
from pave_core.policies.lora_file import RECIPE_KEY

pytestmark = pytest.mark.browser

FLAG = "window.__pave_hostile = true"


@pytest.fixture(scope="module")
def editor(page, server):
    """The page as most users have it: the tests' server forbids it to load from elsewhere (--disable-api-nodes)."""
    with another_page(page, server.url, bypass_csp=True) as opened:
        yield opened


@pytest.fixture
def target():
    """(address, list that gets the path of every request to it)."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_HEAD = do_GET  # noqa: N815  http.server calls them so

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}", seen
        served.shutdown()


def hostile(url: str) -> list[str]:
    """Texts that execute or load something where they are taken for HTML or Markdown."""
    return [
        f'<img src="{url}/img" onerror="{FLAG}">',
        f"<img src=x onerror='alert(1);{FLAG}'>",
        f"![a picture]({url}/markdown.png)",
        f"![a picture][ref]\n\n[ref]: {url}/reference.png",
        f"[![linked]({url}/nested.png)](javascript:{FLAG})",
        f"[a link](javascript:{FLAG})",
        f"<script>{FLAG}</script><script src='{url}/script.js'></script>",
        f"<svg onload='{FLAG}'><image href='{url}/svg.png'/></svg>",
        f"<iframe src='{url}/frame' srcdoc='<script>parent.__pave_hostile = true</script>'></iframe>",
        f"<style>@import '{url}/style.css'; body {{background: url({url}/background.png)}}</style>",
        f"<link rel=stylesheet href='{url}/link.css'><video src='{url}/video' autoplay></video>",
        f"<details open ontoggle='{FLAG}'>x</details><math href='javascript:{FLAG}'>y</math>",
        f"</textarea></pre></code><img src='{url}/broken_out'>",
        f"```html\n<img src='{url}/fenced'>\n```",
        f"{{{{constructor.constructor('{FLAG}')()}}}} ${{{FLAG}}} %{url}%",
        "\u202egnp.exe\u202c \u2066abc\u2069 \x1b[31mred\x1b[0m \x07 \ufeff \u200b zero",
        f"<p>{'long ' * 200_000}</p>",
    ]


def lora(folder, name: str, texts: list[str]) -> None:
    """A LoRA file whose recipe has these texts wherever it may have a text."""
    recipe = {
        "pack": texts[0],
        "comfyui": texts[1],
        "method": texts[2],
        "step": texts[3],
        "model": "x",
        "config": TrainConfig().to_dict(),
        "reward": {"rewards": [{"name": text, text: text} for text in texts], "normalise": texts[4]},
        "judge": {"name": texts[5], "instruction": texts[6]},
        "guard": None,
        "prompts": texts[:-1],
        "held_out": texts[:-1],
        "sampling": {"width": 64, "height": 64, "scheduler": "simple", "negative": texts[7]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(1)}, folder / name, {RECIPE_KEY: json.dumps(recipe)})


def watch(page, url: str, seen: list[str]) -> list[str]:
    """The dialogs that open on the page from now on. First, that a picture of the page's own does reach `url`."""
    dialogs: list[str] = []
    page.evaluate("url => { new Image().src = url }", f"{url}/control")
    until(page, "the server sees the page", lambda: seen == ["/control"], seconds=60)
    seen.clear()

    def dismiss(dialog):
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    return dialogs


def run_in_page(page, client, graph: dict) -> dict:
    """Open a graph in the page, press Run, wait for its end: its entry in the history."""
    page.evaluate("graph => app.loadApiJson(graph, 'hostile')", graph)
    until(page, "the nodes are there", lambda: page.evaluate("app.graph.nodes.length") == len(graph))
    with page.expect_response(lambda got: got.url.endswith("/prompt") and got.request.method == "POST") as asked:
        page.evaluate("app.queuePrompt(0, 1)")
    answer = asked.value.json()
    run = answer.get("prompt_id")
    if run is None or answer["node_errors"]:
        return answer
    return until(page, "the run has ended", lambda: json.loads(client.get(f"/history/{run}")).get(run))


def prompted(graph: dict, text: str) -> dict:
    """The graph with its prompts from a node: the page has no widget for them."""
    return with_settings(graph, score={"prompts": ["text", 0]}) | {"text": node("PrimitiveStringMultiline", value=text)}


def shown(page) -> str:
    """All text that the page's own elements show, widgets of the canvas included."""
    return page.evaluate(
        "() => document.body.innerText + app.graph.nodes.flatMap(n => n.widgets ?? []).map(w => w.value).join(' ')"
    )


def check_harmless(page, seen, dialogs) -> None:
    page.wait_for_timeout(1500)
    assert seen == []
    assert dialogs == []
    assert not page.evaluate("window.__pave_hostile")
    assert [problem for problem in page.problems if PACK in problem] == []


def test_a_recipe_shows_its_texts_and_does_nothing(editor, server, client, target):
    url, seen = target
    lora(server.output / "loras", "hostile.safetensors", hostile(url))
    editor.problems.clear()
    dialogs = watch(editor, url, seen)
    graph = {
        "1": node("PaveLoRARecipe", lora="hostile.safetensors"),
        "2": node("PreviewAny", source=["1", 5]),
        "3": node("PavePrompts", text="\n".join(hostile(url)[:8]), file="none", held_out=0.0, seed=0),
        "4": node("PreviewAny", source=["3", 0]),
        **{f"{5 + slot}": node("PreviewAny", source=["1", slot]) for slot in range(5)},
    }
    run = run_in_page(editor, client, graph)
    assert run.get("status", {}).get("status_str") == "success", run
    until(editor, "the recipe is shown", lambda: "held_out" in shown(editor))
    check_harmless(editor, seen, dialogs)
    with nodes_2(editor):
        until(editor, "the recipe is shown", lambda: "held_out" in shown(editor))
        check_harmless(editor, seen, dialogs)


def test_values_in_errors_of_nodes_do_nothing(editor, client, target):
    url, seen = target
    editor.problems.clear()
    dialogs = watch(editor, url, seen)
    texts = hostile(url)
    for base_url, pattern, prompts in zip(texts[::3], texts[1::3], texts[2::3], strict=False):
        graph = prompted(scoring(judge_node(base_url, parse="regex", pattern=pattern)), prompts)
        answer = run_in_page(editor, client, graph)
        assert "base_url" in json.dumps(answer), answer
    judge = Server(lambda request: request.say("".join(texts[:7])))  # an error while it runs shows the reply
    run = run_in_page(editor, client, prompted(scoring(judge_node(judge.url, parse="json key")), texts[0]))
    judge.close()
    assert "img src" in json.dumps(run["status"]), run
    check_harmless(editor, seen, dialogs)
