"""Pave Export Recipe: what it writes is what the graph would train, for tools/train.py."""

import json

import pytest

from _host.client import PromptError
from _small_runs import header
from _tiny_pipelines import saved
from _training_graphs import RUN, SETTINGS, Graph, composed, node, trained


def exported(run_name: str, **values) -> Graph:
    """The graph of trained(), with Pave Export Recipe in the place of the training node."""
    own = {"run_name": run_name, "iterations": 3, "reward": ["reward", 0]}
    inputs = {name: value for name, value in (SETTINGS | RUN | own | values).items() if name != "resume"}
    return composed() | {"export": node("PaveExportRecipe", **inputs)}


def written(server, name: str) -> dict:
    return json.loads((server.output / "pave" / "recipes" / f"{name}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def recipe(host):
    """The module that reads recipes for tools/train.py."""
    from _train import recipe

    return recipe


def test_it_says_what_a_lora_of_the_same_graph_says(client, server, recipe):
    shown = client.run(exported("exported"), timeout=60)["export"]["text"]
    assert "exported.json" in str(shown)
    assert "python tools/train.py" in str(shown)
    client.run(trained("exported", 1), timeout=120)
    lora = header(server.output / "loras" / "pave" / "exported_00001.safetensors", "pave_recipe")
    said = written(server, "exported")
    assert said["config"]["run"].pop("iterations") == 3
    assert lora["config"]["run"].pop("iterations") == 1
    own = {name: said.pop(name) for name in ("files", "run", "processes")}
    assert {name: value for name, value in lora.items() if name != "step"} == said
    assert own["files"] == {"bundled": True}
    assert own["run"]["name"] == "exported"
    assert own["processes"] == {"shard": "prompts", "timeout": 1800.0}
    read = recipe.read(server.output / "pave" / "recipes" / "exported.json")
    assert read.base == lora["model"]
    assert read.settings("none").name == "exported"


def test_nothing_is_overwritten(client, server):
    client.run(exported("twice"), timeout=60)
    client.run(exported("twice", seed=8), timeout=60)
    assert written(server, "twice")["config"]["run"]["seed"] != written(server, "twice_2")["config"]["run"]["seed"]


def test_a_pipeline_is_named_by_its_folder(client, server, recipe):
    folder = saved("SD3", server.folder / "models" / "diffusers" / "exported_sd3")
    graph = exported("of_folder", reward=["colour", 0])
    values = {"cfg": 1.0, "negative_prompt": "", "guidance": -1.0, "precision": "fp32", "lora": ["lora", 0]}
    graph["policy"] = node("PaveDiffusersPolicy", pipeline=folder.name, **values)
    for unused in ("tiny", "clip", "reward"):
        del graph[unused]
    client.run(graph, timeout=60)
    assert written(server, "of_folder")["files"] == {"diffusers": "exported_sd3", "precision": "fp32"}
    assert recipe.read(server.output / "pave" / "recipes" / "of_folder.json").of_pipeline


NAMES = {"unet_name": "a.safetensors", "weight_dtype": "fp8_e4m3fn"}
LOADERS = {
    "checkpoint": node("CheckpointLoaderSimple", ckpt_name="all.safetensors"),
    "other": node("CheckpointLoaderSimple", ckpt_name="other.safetensors"),
    "unet": node("UNETLoader", **NAMES),
    "clip": node("CLIPLoader", clip_name="t5", type="sdxl"),
    "two": node("DualCLIPLoader", clip_name1="l", clip_name2="t5", type="flux"),
    "three": node("TripleCLIPLoader", clip_name1="l", clip_name2="g", clip_name3="t5"),
    "vae": node("VAELoader", vae_name="vae.safetensors"),
    "shift": node("ModelSamplingSD3", model=["unet", 0], shift=3.0),
    "wired": node("VAELoader", vae_name=["name", 0]),
    "name": node("PrimitiveString", value="vae.safetensors"),
    "tiny": node("PaveTinyModel"),
    "export": node("PaveExportRecipe", policy=["policy", 0]),
}


def policy(model: str, clip: str, vae: str) -> Graph:
    """LOADERS, and a policy of some of them."""
    return LOADERS | {"policy": node("PavePolicy", model=[model, 0], clip=[clip, 0], vae=[vae, 0])}


@pytest.mark.parametrize(
    ("graph", "files"),
    [
        (policy("tiny", "tiny", "tiny"), {"bundled": True}),
        (policy("checkpoint", "checkpoint", "checkpoint"), {"checkpoint": "all.safetensors"}),
        (
            policy("checkpoint", "clip", "vae"),
            {
                "checkpoint": "all.safetensors",
                "text_encoders": ["t5"],
                "clip_type": "stable_diffusion",
                "vae": "vae.safetensors",
            },
        ),
        (
            policy("unet", "two", "vae"),
            {
                "diffusion_model": "a.safetensors",
                "weight_dtype": "fp8_e4m3fn",
                "text_encoders": ["l", "t5"],
                "clip_type": "flux",
                "vae": "vae.safetensors",
            },
        ),
        (
            policy("unet", "three", "vae"),
            {
                "diffusion_model": "a.safetensors",
                "weight_dtype": "fp8_e4m3fn",
                "text_encoders": ["l", "g", "t5"],
                "clip_type": "stable_diffusion",
                "vae": "vae.safetensors",
            },
        ),
    ],
)
def test_files_are_those_of_the_loaders(modules, graph, files):
    assert modules.module("nodes.host.graphs.files").model_files(graph, "export") == files


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (policy("shift", "clip", "vae"), r"model: it comes from 'ModelSamplingSD3' \(node shift\), and a recipe names"),
        (policy("unet", "clip", "wired"), r"vae: 'VAELoader' \(node wired\) gets it by a wire: choose the file"),
        (policy("checkpoint", "other", "vae"), "clip: it is of a second checkpoint"),
        (policy("unet", "checkpoint", "vae"), "model: a recipe names a checkpoint or a diffusion model, not both"),
        (policy("tiny", "clip", "vae"), "model: it comes from 'PaveTinyModel'"),
        (policy("nothing", "clip", "vae"), "model: it is not wired to a node of this graph"),
        (LOADERS | {"policy": node("PrimitiveInt", value=1)}, r"policy: it comes from 'PrimitiveInt' \(node policy\)"),
    ],
)
def test_what_a_recipe_cannot_name_is_refused(modules, graph, said):
    with pytest.raises(modules.errors.ConfigError, match=said):
        modules.module("nodes.host.graphs.files").model_files(graph, "export")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"export": {"run_name": "../x"}}, "run_name: '../x' is not a plain file name"),
        ({"export": {"iterations": 0}}, "iterations"),
        ({"policy": {"model": ["shift", 0]}}, r"model: it comes from 'ModelSamplingSD3' \(node shift\)"),
    ],
)
def test_bad_input_is_refused_before_anything_is_loaded(client, server, change, message):
    graph = exported("bad") | {"shift": node("ModelSamplingSD3", model=["tiny", 0], shift=3.0)}
    for name, values in change.items():
        graph[name]["inputs"] |= values
    with pytest.raises(PromptError, match=message):
        client.run(graph, timeout=60)
    assert not (server.output / "pave" / "recipes" / "bad.json").exists()
