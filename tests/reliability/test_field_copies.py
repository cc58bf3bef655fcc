"""The pack lies in custom_nodes twice or more: a clone, a downloaded archive, a backup. One of them is used."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from _host.install import LINK_NAME
from _own_server import own_server
from _training_graphs import composed, node

pytestmark = pytest.mark.server

COPIES = ("comfyui-pave-grpo-main", "pave.bak")
PARTS = ("pave_core", "nodes", "web", "locales", "assets")
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "rewards" / "example_pack.py"


@pytest.fixture(scope="module")
def server(comfyui, root, tmp_path_factory):
    """A server with our pack, two copies of it, and a pack that registers a reward."""
    base = tmp_path_factory.mktemp("copies")
    server = own_server(comfyui, base)
    for copy in COPIES:
        for part in PARTS:
            shutil.copytree(root / part, base / "custom_nodes" / copy / part)
        shutil.copy(root / "__init__.py", base / "custom_nodes" / copy)
    shutil.copy(EXAMPLE, base / "custom_nodes")
    with server:
        yield server


def used(client) -> str:
    """The folder that the host takes our nodes from."""
    return client.object_info()["PaveTrain"]["python_module"].removeprefix("custom_nodes.")


def test_the_server_starts_and_every_other_copy_is_named_with_the_one_that_is_used(client, server, root):
    first = used(client)
    lines = [line for line in server.log.read_text("utf-8").splitlines() if "lies in custom_nodes twice" in line]
    where = {LINK_NAME: server.folder / "custom_nodes" / LINK_NAME} | {
        name: server.folder / "custom_nodes" / name for name in COPIES
    }
    others = set(where) - {first}
    assert len(lines) == len(others) == 2
    for name in others:
        assert sum(f"{where[first]} is used, and nothing of {where[name]};" in line for line in lines) == 1, lines


def test_nodes_page_scripts_and_routes_are_those_of_one_copy(client):
    folders = {n["python_module"] for name, n in client.object_info().items() if name.startswith("Pave")}
    assert len(folders) == 1
    scripts = [path for path in json.loads(client.get("/extensions")) if path.endswith("pave_presets.js")]
    assert scripts == [f"/extensions/{used(client)}/pave_presets.js"]
    with urllib.request.urlopen(f"{client.url}/pave/presets", timeout=60) as answer:
        assert "PaveTrain" in json.loads(answer.read())


def test_a_reward_of_another_pack_reaches_the_nodes_and_a_graph_runs(client):
    (reward,) = client.object_info()["PaveRegisteredReward"]["input"]["required"]["reward"][1]["options"]
    graph = {name: composed()[name] for name in ("tiny", "prompts", "policy", "lora", "rollout")} | {
        "reward": node("PaveRegisteredReward", reward=reward),
        "check": node(
            "PaveCheckReward",
            policy=["policy", 0],
            prompts=["prompts", 0],
            reward=["reward", 0],
            rollout=["rollout", 0],
            seed=0,
        ),
    }
    assert client.run(graph)["check"]
