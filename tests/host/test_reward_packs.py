"""Rewards from outside in the real server: packs that load before and after ours, a judge, the scorer of docs/."""

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from _host.client import PromptError
from _own_server import own_server

pytestmark = pytest.mark.server

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "rewards"
RED, GREY = 0xFF0000, 0x808080
EARLY, LATE = "redness (early pack)", "redness (late pack)"
PROBE = """
import sys
print("PROBE {name}: pave_core is", "here" if "pave_core" in sys.modules else "not here yet", flush=True)
"""


def example_pack(folder: Path, name: str) -> None:
    """The example of the docs as a pack called `name`, which also says whether ours was there first."""
    text = (EXAMPLES / "example_pack.py").read_text("utf-8")
    text = text.replace("example pack", f"{name} pack").replace("ExampleRedness", f"{name.title()}Redness")
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(text + PROBE.format(name=name), "utf-8")


@pytest.fixture(scope="module")
def running(comfyui, root, tmp_path_factory):
    """A server with our pack, and with one pack that the host loads before it and one that it loads after it."""
    base = tmp_path_factory.mktemp("packs")
    example_pack(base / "first" / "custom_nodes", "early")
    example_pack(base / "last" / "custom_nodes", "late")
    config = base / "extra.yaml"
    config.write_text(
        f"first: {{base_path: {json.dumps(str(base / 'first'))}, is_default: true, custom_nodes: custom_nodes}}\n"
        f"last: {{base_path: {json.dumps(str(base / 'last'))}, custom_nodes: custom_nodes}}\n",
        "utf-8",
    )
    with own_server(comfyui, base, "--extra-model-paths-config", str(config)) as server:
        yield server


@pytest.fixture
def client(running):
    with running.client() as connected:
        yield connected


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def scoring(reward, colour=RED, prompts="a red square") -> dict:
    """A graph that scores an image of one colour."""
    return {
        "image": node("EmptyImage", width=64, height=64, batch_size=1, color=colour),
        "reward": reward,
        "score": node("PaveScore", reward=["reward", 0], images=["image", 0], prompts=prompts),
        "show": node("PreviewAny", source=["score", 1]),
    }


def score(client, reward, **graph) -> float:
    return float(client.run(scoring(reward, **graph), timeout=60)["show"]["text"][0])


def test_packs_were_loaded_before_and_after_ours(running):
    log = running.log.read_text("utf-8")
    assert "PROBE early: pave_core is not here yet" in log
    assert "PROBE late: pave_core is here" in log


def test_a_pack_registers_a_reward_whichever_loads_first(client):
    description = client.object_info()["PaveRegisteredReward"]
    assert description["input"]["required"]["reward"][1]["options"] == [EARLY, LATE]
    assert f"{EARLY}: more red than green and blue" in description["input"]["required"]["reward"][1]["tooltip"]
    for name in (EARLY, LATE):
        assert score(client, node("PaveRegisteredReward", reward=name)) == 1
        assert score(client, node("PaveRegisteredReward", reward=name), colour=GREY) == pytest.approx(0, abs=1e-4)


def test_any_object_with_a_name_and_a_call_is_a_reward_on_a_wire(client):
    assert score(client, node("EarlyRedness")) == 1
    assert score(client, node("LateRedness"), colour=0x00FF00) == -0.5


def test_a_reward_of_no_pack_is_refused_before_anything_runs(client):
    with pytest.raises(PromptError, match="reward: 'beauty' is not offered by any pack in custom_nodes: install one"):
        client.run(scoring(node("PaveRegisteredReward", reward="beauty")))


def test_a_registered_reward_trains_in_a_mix(client):
    prompts = "a red circle on a dark background\na blue star on a light background"
    schema = client.object_info()["PaveTrain"]["input"]["required"]
    defaults = {
        name: options[0]["default"] for name, (_, *options) in schema.items() if options and "default" in options[0]
    }
    small = {
        "preset": "custom",
        "iterations": 1,
        "prompts_per_step": 1,
        "steps": 3,
        "branch_steps": "0",
        "group_size": 2,
        "segments": "2",
    }
    wires = {name: ["model", place] for place, name in enumerate(("model", "clip", "vae"))} | {
        "prompts": ["prompts", 0],
        "reward": ["mix", 0],
    }
    training = node(
        "PaveTrain", **defaults | small | wires | {"width": 64, "height": 64, "resume": "none", "evaluation_seeds": 1}
    )
    graph = {
        "model": node("PaveTinyModel"),
        "prompts": node("PavePrompts", text=prompts, file="none", held_out=0.5, seed=0),
        "theirs": node("PaveRegisteredReward", reward=EARLY),
        "statistic": node("PaveStatisticsReward", statistic="brightness", direction="near", target=0.4),
        "size": node("PaveJPEGSize", prefer="small files"),
        "mix": node(
            "PaveRewardMix",
            normalise="within group",
            reward_1=["theirs", 0],
            weight_1=1.0,
            reward_2=["statistic", 0],
            weight_2=1.0,
            reward_3=["size", 0],
            weight_3=0.5,
            weight_4=1.0,
        ),
        "train": training,
        "show": node("PreviewAny", source=["train", 5]),
    }
    summary = client.run(graph, timeout=200)["show"]["text"][0]
    for name in ("redness", "brightness", "jpeg size"):
        assert f"{name} alone" in summary


def test_the_ocr_node_reads_in_the_server(client):
    assert score(client, node("PaveOCR"), prompts='a sign that says "OPEN"') == 0
    with pytest.raises(PromptError, match="'a red square' has no text in quotes"):
        score(client, node("PaveOCR"))


@contextlib.contextmanager
def example_server(*options: str):
    """The scorer of the docs as a program of its own; its address."""
    command = [sys.executable, str(EXAMPLES / "hpsv3_server.py"), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            yield re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        finally:
            process.terminate()


def judge(base_url, **inputs):
    defaults = {
        "api": "chat completions",
        "model": "default",
        "instruction": "Rate {prompt}",
        "parse": "number",
        "pattern": "score",
        "timeout": 5.0,
        "retries": 0,
        "concurrency": 2,
        "max_tokens": 16,
        "batch_size": 4,
        "allow_remote": False,
        "key_variable": "",
    }
    return node("PaveJudge", base_url=base_url, **(defaults | inputs))


def test_the_example_scorer_scores_in_a_graph(client):
    with example_server("--fake") as url:
        assert score(client, judge(url, api="scores"), colour=GREY) == pytest.approx(128 / 255)
        assert score(client, judge(url, api="scores"), colour=0xFFFFFF) == 1
        with pytest.raises(PromptError, match=rf"no score from {url}/nowhere/score: HTTP 404"):
            score(client, judge(f"{url}/nowhere", api="scores"))


@pytest.mark.parametrize(
    "body",
    [
        "five",
        [],
        {},
        {"images": []},
        {"images": [], "prompts": []},
        {"images": ["aGk="], "prompts": []},
        {"images": ["aGk="], "prompts": ["a"]},
        {"images": ["!"], "prompts": ["a"]},
        {"images": [5], "prompts": ["a"]},
        {"images": ["iVBORw0KGgo="], "prompts": [None]},
    ],
)
def test_the_example_scorer_refuses_what_it_cannot_read(scorer, body):
    status, answer = scorer(body)
    assert status == 400
    assert answer["error"]


@pytest.fixture(scope="module")
def scorer():
    """scorer(body) -> status and JSON of the example server."""
    with example_server("--fake") as url:

        def post(body):
            request = urllib.request.Request(f"{url}/score", json.dumps(body).encode())
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(request, timeout=10)
            return error.value.code, json.loads(error.value.read())

        yield post


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"base_url": "http://10.0.0.1:8000/v1"}, "is not on this machine"),
        ({"base_url": "http://127.0.0.1@evil.org"}, "has a user"),
        ({"base_url": "localhost:8000"}, "is not an address"),
        ({"parse": "regex", "pattern": "(a"}, "is not a regular expression"),
        ({"parse": "regex", "pattern": "(?:a{9999}){9999}(b)"}, "repeats too much"),
        ({"parse": "regex", "pattern": "(a)" * 200}, "has 600 characters"),
        ({"base_url": "http://127.0.0.1/" + "a" * 1_000_000}, "has 1000017 characters"),
        ({"instruction": "a" * 1_000_000}, "has 1000000 characters"),
        ({"model": ""}, "it is empty"),
        ({"parse": "json key", "pattern": ""}, "is not a key"),
        ({"parse": "guess"}, "'guess' is not known"),
        ({"api": "grpc"}, "'grpc' is not known"),
        ({"key_variable": "HF_TOKEN"}, "does not begin with PAVE_"),
        ({"key_variable": "PAVE_NOT_SET"}, 'set PAVE_JUDGE_HOSTS="http://127.0.0.1:1=PAVE_NOT_SET"'),
        ({"base_url": "http://10.0.0.1:8000", "allow_remote": True}, 'set PAVE_JUDGE_HOSTS="http://10.0.0.1:8000"'),
        ({"timeout": 1e9}, "bigger than max"),
        ({"max_tokens": 10**18}, "bigger than max"),
        ({"batch_size": 10**18}, "bigger than max"),
        ({"retries": 99}, "bigger than max"),
        ({"timeout": 0.0}, "smaller than min"),
    ],
)
def test_a_judge_that_cannot_work_is_refused_before_anything_runs(client, inputs, message):
    with pytest.raises(PromptError, match=re.escape(message)):
        client.queue(scoring(judge(**{"base_url": "http://127.0.0.1:1", **inputs})))


def test_no_server_is_said_on_the_node(client):
    with pytest.raises(
        PromptError, match=r"PaveScore \(node score\): .*there is no server at http://127.0.0.1:1/v1/chat/completions"
    ):
        client.run(scoring(judge("http://127.0.0.1:1/v1")), timeout=60)


@pytest.fixture
def silent_server():
    """The address of a server that never answers, and an event that says that it was asked."""
    asked, end = threading.Event(), threading.Event()

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.set()
            end.wait(60)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}", asked
        end.set()
        served.shutdown()


def test_cancel_does_not_wait_for_the_judge(client, silent_server):
    url, asked = silent_server
    prompt_id = client.queue(scoring(judge(url, timeout=300.0)))
    assert asked.wait(30)
    begin = time.monotonic()
    client.interrupt()
    kinds = [event.kind for event in client.events(prompt_id, timeout=30)]
    assert "execution_interrupted" in kinds
    assert time.monotonic() - begin < 30
