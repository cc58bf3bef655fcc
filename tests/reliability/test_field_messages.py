"""Values that are not finite are called so, with the usual culprits, at every door: never "divide by 255", never "no
spread".
"""

import re
import shutil
from pathlib import Path

import pytest

from _host.client import PromptError
from _own_server import own_server
from _training_graphs import RUN, SETTINGS, composed, looped, node, with_settings

pytestmark = pytest.mark.server

CULPRITS = re.compile(r"not finite.*fp16.*--fast.*Sage.*patches")
WRONG_WAY = re.compile(r"divide|same number|spread|apart|clamp")
PACK = Path(__file__).resolve().parents[1] / "support" / "_field_pack"


@pytest.fixture(scope="module")
def server(comfyui, root, tmp_path_factory):
    """A server with our pack, and with one that gives values that are not finite."""
    base = tmp_path_factory.mktemp("nan")
    server = own_server(comfyui, base)
    shutil.copytree(PACK, base / "custom_nodes" / "field_pack")
    with server:
        yield server


def with_nan(graph, kind):
    """The graph with a MODEL or a VAE that gives NaN between the bundled model and what takes it."""
    if kind == "model":
        broken = {"broken": node("FieldNaNModel", model=["tiny", 0])}
        return with_settings(graph, policy={"model": ["broken", 0]}) | broken
    return with_settings(graph, policy={"vae": ["broken", 0]}) | {"broken": node("FieldNaNVAE", vae=["tiny", 2])}


def trained(**new):
    run = SETTINGS | RUN | {"run_name": "nan", "iterations": 2, "reward": ["colour", 0]}
    return composed() | {"train": node("PaveTrainAdvanced", **run | new)}


def reward_checked():
    wires = {"policy": ["policy", 0], "prompts": ["prompts", 0], "rollout": ["rollout", 0], "reward": ["reward", 0]}
    return composed() | {"check": node("PaveCheckReward", **wires, seed=0)}


def compared(kind):
    broken = node("FieldNaNModel", model=["tiny", 0]) if kind == "model" else node("FieldNaNVAE", vae=["tiny", 2])
    wires = {
        "model_a": ["broken" if kind == "model" else "tiny", 0],
        "model_b": ["tiny", 0],
        "clip": ["tiny", 1],
        "vae": ["broken", 0] if kind == "vae" else ["tiny", 2],
        "prompts": ["prompts", 0],
        "reward": ["colour", 0],
    }
    return composed() | {"broken": broken, "compare": node("PaveCompare", **wires), "s": show("compare", 1)}


def preflighted():
    wires = {"policy": ["policy", 0], "prompts": ["prompts", 0], "rollout": ["rollout", 0], "reward": ["reward", 0]}
    return composed() | {"preflight": node("PavePreflight", **wires, card=0.0, prompts_per_step=1)}


def show(source, place=0):
    return node("PreviewAny", source=[source, place])


def scored(reward, value="nan"):
    return composed() | {
        "images": node("FieldNaNImages", value=value),
        "score": node("PaveScore", reward=reward, images=["images", 0], prompts="a red square"),
        "s": show("score", 1),
    }


def of_statistic(value="nan"):
    statistic = node("PaveImageStatistic", images=["images", 0], statistic="mean")
    return {"images": node("FieldNaNImages", value=value), "statistic": statistic, "s": show("statistic")}


CASES = {
    **{f"train, {kind}": with_nan(trained(), kind) for kind in ("model", "vae")},
    **{f"loop, {kind}": with_nan(looped("nan"), kind) for kind in ("model", "vae")},
    **{f"reward check, {kind}": with_nan(reward_checked(), kind) for kind in ("model", "vae")},
    **{f"compare, {kind}": compared(kind) for kind in ("model", "vae")},
    "preflight, model": with_nan(preflighted(), "model"),
    **{
        f"{reward}, {value}": scored([reward, 0], value)
        for reward in ("colour", "clip", "reward")
        for value in ("nan", "-inf")
    },
    "statistic, nan": of_statistic(),
    "statistic, inf": of_statistic("inf"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_finite_is_called_so(client, name):
    with pytest.raises(PromptError) as error:
        client.run(filled(client, CASES[name]))
    said = str(error.value)
    assert CULPRITS.search(said), said
    assert not WRONG_WAY.search(said), said


def filled(client, graph):
    """The graph with the defaults of what it leaves out."""
    info = client.object_info()
    done = {}
    for name, each in graph.items():
        inputs = info[each["class_type"]]["input"].get("required", {})
        defaults = {
            key: options[0]["default"] for key, (_, *options) in inputs.items() if options and "default" in options[0]
        }
        done[name] = node(each["class_type"], **defaults | each["inputs"])
    return done


def test_without_the_reward_check_the_first_evaluation_says_it(client):
    graph = with_nan(trained(check_reward=False), "vae")
    with pytest.raises(PromptError, match=r"not finite.*fp16.*Sage"):
        client.run(filled(client, graph))
