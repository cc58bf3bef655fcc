"""The files that the model in a graph is loaded from, as the recipe of a headless run names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.sd

from ....pave_core.errors import ConfigError, quoted
from .graph import Graph, sources

Inputs = Mapping[str, Any]
CHECKPOINT, TINY = "CheckpointLoaderSimple", "PaveTinyModel"
ENCODERS = {"CLIPLoader": ("clip_name",)} | {
    f"{kind}CLIPLoader": tuple(f"clip_name{i + 1}" for i in range(count))
    for kind, count in (("Dual", 2), ("Triple", 3), ("Quadruple", 4))
}
PARTS: Mapping[str, Mapping[str, Callable[[Inputs], dict[str, Any]]]] = {
    "model": {
        "UNETLoader": lambda of: {"diffusion_model": of["unet_name"], "weight_dtype": of["weight_dtype"]},
    },
    "clip": {
        kind: lambda of, names=names: {
            "text_encoders": [of[name] for name in names],
            "clip_type": _clip_type(of.get("type", "")),
        }
        for kind, names in ENCODERS.items()
    },
    "vae": {"VAELoader": lambda of: {"vae": of["vae_name"]}},
}
"""{input of Pave Policy: {the host's loaders of it: what a recipe says of their widgets}}."""


def model_files(graph: Graph, node: str) -> dict[str, Any]:
    """The entry "files" for the policy that is wired to `node`.

    ConfigError where it comes from anything but the host's own loaders: a recipe names files, and nothing else.
    """
    policy = _source(graph, node, "policy")
    kind, inputs = graph[policy]["class_type"], graph[policy]["inputs"]
    if kind == "PaveDiffusersPolicy":
        return _plain(graph, policy, {"diffusers": inputs["pipeline"], "precision": inputs["precision"]})
    if kind != "PavePolicy":
        raise ConfigError(f"policy: it comes from {_named(graph, policy)}: connect Pave Policy itself")
    loaders = {part: _source(graph, policy, part) for part in PARTS}
    kinds = {graph[loader]["class_type"] for loader in loaders.values()}
    if kinds == {TINY}:
        return {"bundled": True}
    files: dict[str, Any] = {}
    for part, loader in loaders.items():
        kind, inputs = graph[loader]["class_type"], graph[loader]["inputs"]
        if kind == CHECKPOINT:
            said = {"checkpoint": inputs["ckpt_name"]}
        elif kind in PARTS[part]:
            said = PARTS[part][kind](inputs)
        else:
            raise ConfigError(
                f"{part}: it comes from {_named(graph, loader)}, and a recipe names only files that "
                f"{' or '.join((*PARTS[part], CHECKPOINT))} loads: connect one of these; the sigmas of another shift "
                "go into Pave Rollout Settings"
            )
        _plain(graph, loader, said)
        if "checkpoint" in said and said["checkpoint"] != files.get("checkpoint", said["checkpoint"]):
            raise ConfigError(f"{part}: it is of a second checkpoint, and a recipe names one: load it from a file")
        files |= said
    if "checkpoint" in files and "diffusion_model" in files:
        raise ConfigError(
            "model: a recipe names a checkpoint or a diffusion model, not both: load text encoder and VAE from files "
            "of their own"
        )
    return files


def _source(graph: Graph, node: str, name: str) -> str:
    """The node that an input is wired to."""
    found = {wired: source for wired, source, _ in sources(graph[node])}.get(name)
    if found is None or found not in graph:
        raise ConfigError(f"{name}: it is not wired to a node of this graph: connect it")
    return found


def _plain(graph: Graph, node: str, said: dict[str, Any]) -> dict[str, Any]:
    """`said`, if no value in it is a wire."""
    for name, value in said.items():
        if not all(isinstance(each, str) for each in (value if name == "text_encoders" else [value])):
            raise ConfigError(f"{name}: {_named(graph, node)} gets it by a wire: choose the file in its own widget")
    return said


def _clip_type(said: Any) -> str:
    """What the host's loaders make of their widget `type`: a kind that has none of its own is stable_diffusion."""
    known = {kind.name.lower() for kind in comfy.sd.CLIPType}
    return said if said in known else "stable_diffusion"


def _named(graph: Graph, node: str) -> str:
    return f"{quoted(graph[node]['class_type'])} (node {node})"
