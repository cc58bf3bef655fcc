"""Training graphs in the host's API format, and what their runs leave behind."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

PROMPTS = "a red circle on a dark background\na blue star on a light background\na green square on a dark background"
Graph = dict[str, dict[str, Any]]


MIX = {"weight_1": 1.0, "weight_2": 0.5, "weight_3": 1.0, "weight_4": 1.0}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def composed(**rollout: Any) -> Graph:
    """Model, prompts, reward and settings, as nodes."""
    return {
        "tiny": node("PaveTinyModel"),
        "prompts": node("PavePrompts", text=PROMPTS, file="none", held_out=0.3, seed=0),
        "colour": node("PaveColour", red=1.0, green=0.5, blue=0.0, softness=0.5),
        "clip": node(
            "PaveCLIPScore", checkpoint="bundled tiny CLIP", architecture="auto", precision="fp32", batch_size=7
        ),
        "reward": node("PaveRewardMix", **MIX, reward_1=["clip", 0], reward_2=["colour", 0], normalise="within group"),
        "lora": node("PaveLoRASettings", rank=2, alpha=4.0, targets="attention", init="gaussian"),
        "policy": node(
            "PavePolicy",
            model=["tiny", 0],
            clip=["tiny", 1],
            vae=["tiny", 2],
            lora=["lora", 0],
            cfg=1.0,
            negative_prompt="",
            guidance=3.5,
        ),
        "rollout": node(
            "PaveRolloutSettings",
            **{
                "steps": 4,
                "branch_steps": "0, 1",
                "group_size": 3,
                "eta": 0.8,
                "batch_size": 16,
                "width": 64,
                "height": 64,
                "scheduler": "simple",
            }
            | rollout,
        ),
        "objective": node("PaveObjective", segments="2, 3", advantage_clip=5.0, plain_weight=1.0, segment_weights=""),
        "optimizer": node(
            "PaveOptimizer",
            optimizer="AdamW",
            learning_rate=5e-3,
            schedule="constant",
            decay_steps=0,
            warmup_steps=0,
            weight_decay=1e-4,
            beta1=0.9,
            beta2=0.999,
            max_grad_norm=1.0,
            optimizer_step="accumulated",
        ),
    }


RUN = {
    "prompts_per_step": 2,
    "seed": 3,
    "resume": "none",
    "checkpoint_every": 25,
    "evaluation_seeds": 2,
    "evaluate_every": 0,
}
SETTINGS = {
    "policy": ["policy", 0],
    "prompts": ["prompts", 0],
    "rollout": ["rollout", 0],
    "objective": ["objective", 0],
    "optimizer": ["optimizer", 0],
}


def with_settings(graph: Graph, **of_nodes: dict[str, Any]) -> Graph:
    """`graph` with other values of some of its nodes' inputs: {node id: {input: value}}."""
    return graph | {
        name: node(graph[name]["class_type"], **graph[name]["inputs"] | new) for name, new in of_nodes.items()
    }


def choosing(graph: Graph) -> Graph:
    """A loop whose steps choose their prompts among candidates."""
    return with_settings(graph, draw={"state": ["choose", 0]}, loss={"state": ["choose", 0]}) | {
        "candidates": node("PaveCandidates", state=["loop", 1]),
        "rated": node("PaveScore", reward=["reward", 0], images=["candidates", 1], prompts=["candidates", 2]),
        "choose": node("PaveChoosePrompts", state=["loop", 1], candidates=["candidates", 0], scores=["rated", 0]),
    }


def contrasting(graph: Graph) -> Graph:
    """A loop that learns from the best and the worst images of each group."""
    new = {"advantage": {"rollout": ["contrast", 0], "scores": ["again", 0]}, "loss": {"rollout": ["contrast", 0]}}
    return with_settings(graph, **new) | {
        "contrast": node("PaveContrast", rollout=["draw", 0], scores=["score", 0]),
        "again": node("PaveScore", reward=["reward", 0], images=["contrast", 1], prompts=["contrast", 2]),
    }


def looped(run_name: str, iterations: int = 3, **begin: Any) -> Graph:
    """The whole training loop as nodes."""
    return composed() | {
        "begin": node("PaveBegin", **SETTINGS | RUN | {"run_name": run_name} | begin),
        "loop": node("PaveLoopBegin", state=["begin", 0], iterations=iterations),
        "draw": node("PaveRollout", state=["loop", 1]),
        "score": node("PaveScore", reward=["reward", 0], images=["draw", 1], prompts=["draw", 2]),
        "advantage": node("PaveAdvantage", rollout=["draw", 0], scores=["score", 0]),
        "loss": node("PaveDecompositionLoss", state=["loop", 1], rollout=["draw", 0], advantages=["advantage", 0]),
        "step": node("PaveOptimizerStep", state=["loss", 0]),
        "end": node("PaveLoopEnd", loop=["loop", 0], state=["step", 0]),
        "finish": node("PaveFinish", state=["end", 0]),
    }


def trained(run_name: str, iterations: int = 3) -> Graph:
    """The same as one node, with the settings on wires."""
    train = node(
        "PaveTrainAdvanced",
        **SETTINGS | RUN | {"run_name": run_name, "iterations": iterations, "reward": ["reward", 0]},
    )
    return composed() | {"train": train}


def lora(server, run_name: str, number: int | None = None) -> dict[str, torch.Tensor]:
    """Of the only run of this name, or of that with a number."""
    return load_file(server.output / "loras" / "pave" / f"{_named(server, run_name, number)}.safetensors")


def metrics(server, run_name: str, number: int | None = None) -> list[dict[str, Any]]:
    """Of the only run of this name, or of that with a number; without the clock."""
    lines = (server.output / "pave" / _named(server, run_name, number) / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("seconds", "memory", "anchor_reward")} for line in lines
    ]


def _named(server, run_name: str, number: int | None) -> str:
    """The run's name; all tests share the server, and another one may have used it."""
    if number is None:
        assert len(runs(server, run_name)) == 1, f"another test has a run {run_name} too"
    return f"{run_name}_{number or 1:05}"


def runs(server, run_name: str) -> list[Path]:
    return sorted((server.output / "pave").glob(f"{run_name}_[0-9][0-9][0-9][0-9][0-9]"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
