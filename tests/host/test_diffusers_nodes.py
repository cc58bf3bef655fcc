"""Pave Diffusers Policy in the real server: a pipeline folder trains in the nodes that train a MODEL."""

import json

import pytest
import torch
from safetensors.torch import load_file

from _host.client import PromptError
from _tiny_pipelines import bundled_as_pipeline, saved
from _training_graphs import Graph, looped, lora, metrics, node, same, trained

TINY = "tiny, random weights"


@pytest.fixture(scope="module")
def folder(server):
    """A folder of a tiny SD3 pipeline in the server's models/diffusers."""
    return saved("SD3", server.folder / "models" / "diffusers" / "tiny_sd3")


def piped(graph: Graph, pipeline: str = TINY, **values) -> Graph:
    """`graph` with a pipeline in the place of MODEL, CLIP and VAE."""
    inputs = {"pipeline": pipeline, "lora": ["lora", 0], "cfg": 1.0, "negative_prompt": "", "guidance": -1.0}
    graph["policy"] = node("PaveDiffusersPolicy", **inputs | {"precision": "fp32"} | values)
    graph["reward"] = graph.pop("colour")
    for unused in ("tiny", "clip"):
        del graph[unused]
    graph["rollout"]["inputs"] |= {"steps": 3, "group_size": 2}
    return graph


def test_the_tiny_pipeline_trains_and_is_measured(client, server):
    graph = piped(trained("piped", 3))
    graph["shown"] = node("PreviewAny", source=["train", 5])
    outputs = client.run(graph, timeout=300)
    assert "steps" in json.dumps(outputs["shown"])
    records = metrics(server, "piped")
    assert [each["step"] for each in records] == [1, 2, 3]
    assert all(each["grad_norm"] > 0 for each in records)
    weights = lora(server, "piped")
    assert {key.split(".")[0] for key in weights} == {"diffusion_model"}
    assert any(float(value.abs().max()) > 0 for key, value in weights.items() if "lora_B" in key)


def test_a_drawn_loop_trains_what_pave_train_trains(client, server):
    client.run(piped(looped("piped_loop", 2)), timeout=300)
    client.run(piped(trained("piped_train", 2)), timeout=300)
    assert same(lora(server, "piped_loop"), lora(server, "piped_train"))


def test_a_folder_trains_with_guidance_and_goes_on_where_it_was(client, server, folder):
    settings = {"pipeline": folder.name, "cfg": 2.0, "negative_prompt": "ugly"}
    client.run(piped(trained("piped_whole", 4), **settings), timeout=300)
    client.run(piped(trained("piped_half", 2), **settings), timeout=300)
    graph = piped(trained("piped_half", 4), **settings)
    graph["train"]["inputs"]["resume"] = "piped_half_00001"
    client.run(graph, timeout=300)
    assert same(lora(server, "piped_whole"), lora(server, "piped_half"))
    recipe = json.loads((server.output / "pave" / "piped_whole_00001" / "summary.json").read_text())
    assert recipe["steps"] == 4


def test_the_recipe_of_its_lora_gives_the_settings_again(client, server):
    client.run(piped(trained("piped_first", 2)), timeout=300)
    graph = piped(trained("piped_second", 2))
    graph["recipe"] = node("PaveLoRARecipe", lora="pave/piped_first_00001.safetensors")
    graph["text"] = node("PreviewAny", source=["recipe", 5])
    for place, name in enumerate(("rollout", "objective", "optimizer", "prompts"), 1):
        graph["train"]["inputs"][name] = ["recipe", place]
    graph["policy"]["inputs"]["lora"] = ["recipe", 0]
    text = json.dumps(client.run(graph, timeout=300)["text"])
    assert "rollout" in text
    assert same(lora(server, "piped_first"), lora(server, "piped_second"))


def test_what_needs_the_model_is_told_that_there_is_none(client):
    graph = piped(trained("no_model", 1))
    graph["save"] = node("ModelSave", model=["train", 0], filename_prefix="none")
    with pytest.raises(PromptError, match="no MODEL of the same weights is connected to Pave Diffusers Policy"):
        client.run(graph, timeout=300)


def latents(server, client, name: str, model: list, graph: Graph) -> torch.Tensor:
    """What the stock KSampler draws with the output of a node."""
    graph |= {
        "positive": node("CLIPTextEncode", text="a red circle", clip=["tiny", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["tiny", 1]),
        "empty": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "sampled": node(
            "KSampler",
            **{"model": model, "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["empty", 0]},
            **{"seed": 5, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
        ),
        "save": node("SaveLatent", samples=["sampled", 0], filename_prefix=name),
    }
    client.run(graph, timeout=300)
    (file,) = server.output.glob(f"{name}_*.latent")
    return load_file(file)["latent_tensor"]


def test_a_model_of_the_same_weights_comes_out_with_the_lora(client, server, root):
    """The bundled model, as a pipeline and as MODEL; what comes out is what the stock loader makes of the file."""
    folder = bundled_as_pipeline(root, server.folder / "models" / "diffusers" / "bundled")
    tiny = {"tiny": node("PaveTinyModel")}
    graph = piped(trained("beside", 3), folder.name, model=["tiny", 0]) | tiny
    graph["optimizer"]["inputs"]["learning_rate"] = 0.05
    came_out = latents(server, client, "came_out", ["train", 0], graph)
    named = {"lora_name": "pave/beside_00001.safetensors", "strength_model": 1.0}
    loader = {"loaded": node("LoraLoaderModelOnly", model=["tiny", 0], **named)}
    loaded = latents(server, client, "loaded", ["loaded", 0], tiny | loader)
    plain = latents(server, client, "plain", ["tiny", 0], dict(tiny))
    assert torch.equal(came_out, loaded)
    assert float((came_out - plain).norm() / plain.norm()) > 0.01


def test_the_reward_check_draws_with_the_pipeline(client):
    graph = piped(trained("checked", 1))
    graph["check"] = node(
        "PaveCheckReward",
        policy=["policy", 0],
        prompts=["prompts", 0],
        rollout=["rollout", 0],
        reward=["reward", 0],
        seed=1,
    )
    del graph["train"]
    outputs = client.run(graph, timeout=300)
    assert "check" in outputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": {"pipeline": "nothing"}}, "pipeline"),
        ({"policy": {"cfg": 31.0}}, "cfg"),
        ({"rollout": {"width": 56}}, "AuraFlowPipeline cannot run with width 56"),
        ({"rollout": {"scheduler": "beta"}}, "scheduler: 'beta' is one of ComfyUI's, and a pipeline brings its own"),
        ({"rollout": {"frames": 5}}, "frames: 5 is above 1, and this model draws images"),
    ],
)
def test_bad_input_is_refused_in_clear_words(client, change, message):
    graph = piped(trained("bad", 1))
    for name, values in change.items():
        graph[name]["inputs"] |= values
    with pytest.raises(PromptError, match=message):
        client.run(graph, timeout=300)
