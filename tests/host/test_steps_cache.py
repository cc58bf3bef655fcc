"""Training graphs and the host's cache: what trains again, what is kept, and what is freed."""

import copy
from typing import Any

import torch

from _own_server import own_server
from _training_graphs import Graph, looped, lora, metrics, node, runs, same


def test_queueing_the_same_graph_twice_trains_twice_from_the_start(client, server):
    graph = looped("twice", 2)
    for _ in range(2):
        client.run(copy.deepcopy(graph), timeout=300)
    assert len(runs(server, "twice")) == 2
    assert same(lora(server, "twice", 1), lora(server, "twice", 2))
    assert metrics(server, "twice", 1) == metrics(server, "twice", 2)


def test_a_change_behind_finish_does_not_train_again_and_one_before_it_does(client, server):
    graph = looped("behind", 2) | {"look": node("PreviewImage", images=["finish", 3])}
    first = client.run(copy.deepcopy(graph), timeout=300)
    assert first["look"]["images"]
    graph |= KSAMPLER
    second = client.run(copy.deepcopy(graph), timeout=300)
    assert second["picture"]["images"]
    graph["sampler"]["inputs"]["seed"] = 8
    client.run(copy.deepcopy(graph), timeout=300)
    assert len(runs(server, "behind")) == 1

    graph["advantage"]["inputs"]["scores"] = ["turned", 0]
    graph["turned"] = node("PaveScoresFromNumbers", numbers=["score", 1], name="sum", weight=-1.0)
    client.run(copy.deepcopy(graph), timeout=300)
    assert len(runs(server, "behind")) == 2
    assert not same(lora(server, "behind", 1), lora(server, "behind", 2))


KSAMPLER: Graph = {
    "text": node("CLIPTextEncode", text="a red circle on a dark background", clip=["tiny", 1]),
    "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
    "sampler": node(
        "KSampler",
        model=["finish", 0],
        seed=7,
        steps=4,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        positive=["text", 0],
        negative=["text", 0],
        latent_image=["latent", 0],
        denoise=1.0,
    ),
    "decoded": node("VAEDecode", samples=["sampler", 0], vae=["tiny", 2]),
    "picture": node("PreviewImage", images=["decoded", 0]),
}


def test_the_host_s_cache_keeps_few_of_a_loop_s_pictures(executor):
    """The real executor with its default cache, which holds the outputs of every node of every iteration until the
    graph is queued anew.
    """
    made = executor(looped("memory", 18), ["finish"])

    def entries(dump: list[dict[str, Any]]):
        for entry in dump:
            if "value" in entry:
                yield from entry["value"].outputs
            else:
                yield from entries(entry["subcache"])

    outputs = [
        value
        for slot in entries(made.caches.outputs.recursive_debug_dump())
        for value in slot
        if isinstance(value, torch.Tensor)
    ]
    batches = [value for value in outputs if value.shape == (12, 64, 64, 3)]
    emptied = [value for value in outputs if value.numel() == 0]
    assert len(batches) == 1 + 3, "the first, and the newest with the two behind it"
    assert len(emptied) == 2 * (18 - 4), "pictures and anchors of the others"
    assert all(value._base is None for value in outputs), "a part of another tensor keeps that in memory"


def test_a_loop_runs_without_the_host_s_cache(client, server, comfyui, tmp_path):
    """As the README advises for graphs whose own pictures fill the memory."""

    client.run(looped("cached", 3), timeout=300)
    with own_server(comfyui, tmp_path, "--cache-none") as other, other.client() as uncached:
        uncached.run(looped("uncached", 3), timeout=300)
        assert same(lora(other, "uncached"), lora(server, "cached"))


def test_a_loop_of_the_host_inside_ours_is_copied_with_its_own_nodes(modules):
    """Newer hosts note at their Start Loop which nodes belong to its loop: a copy's are the copies."""
    expansion = modules.module("nodes.host.graphs.expansion")
    info = {"class_type": "Any", "inputs": {}}
    body = {"start": info | {"_loop_body": ["a", "b"], "_loop_end": "stop"}, "a": info, "b": info, "stop": info}
    loop = expansion.Loop(
        "begin", None, range(3, 4), end="end", body=body | {"end": info}, shown_as={n: n for n in [*body, "end"]}
    )
    new, _ = expansion._copies(loop, {"state": None, "value": None})
    assert new["end.3.start"]["_loop_body"] == ["end.3.a", "end.3.b"]
    assert new["end.3.start"]["_loop_end"] == "end.3.stop"
    assert "_loop_body" not in new["end.3.a"]
