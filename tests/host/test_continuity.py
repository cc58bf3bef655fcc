"""What 0.3.0 wrote goes on working: a run resumes bit for bit, a recipe reads, prompts run, nodes are what they were.

The data are in tests/data/v0_3_0.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from _training_graphs import node

DATA = Path(__file__).resolve().parents[1] / "data" / "v0_3_0"
NEW_NODES = {"PaveMemory"}
NEW_SOCKETS = {"PAVE_MEMORY_SETTINGS"}
TEXTS = ("tooltip", "description", "output_tooltips", "python_module")
"""Keys of /object_info whose values may be improved."""


@pytest.fixture
def same_arithmetic(stock) -> bool:
    """Whether this machine computes the bits of the one that made the data: asked of stock nodes and of torch alone."""
    return arithmetic(stock) == json.loads((DATA / "arithmetic.json").read_text())


def arithmetic(stock) -> dict[str, str]:
    """Digests of what this machine computes: a latent, its image, and a few layers after three steps of AdamW."""
    (positive,) = stock.call("CLIPTextEncode", text="a red circle on a dark background", clip=stock.clip)
    latent = stock.sample(stock.model, positive, seed=5)
    (image,) = stock.call("VAEDecode", samples={"samples": latent}, vae=stock.vae)
    generator = torch.Generator().manual_seed(0)
    x, *weights = (torch.randn(shape, generator=generator) for shape in ((6, 64, 96), (96, 192), (192, 96), (96, 96)))
    weights = [weight.mul(0.1).requires_grad_() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for _ in range(3):
        hidden = torch.nn.functional.gelu(x @ weights[0]) @ weights[1]
        attended = torch.nn.functional.scaled_dot_product_attention(hidden, hidden @ weights[2], hidden)
        attended.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = torch.cat([weight.detach().flatten() for weight in weights])
    return {name: digest(value) for name, value in (("latent", latent), ("image", image), ("training", trained))}


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def prompt(name: str) -> dict[str, Any]:
    return json.loads((DATA / "prompts" / f"{name}.json").read_text())


def records(file: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, file.read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_numbers(found: Any, expected: Any, exact: bool) -> None:
    """`found` holds everything that `expected` holds; floats are equal, or equal within what rounding makes of them."""
    if isinstance(expected, dict):
        assert expected.keys() <= found.keys()
        for key in expected:
            assert_same_numbers(found[key], expected[key], exact)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same_numbers(one, other, exact)
    elif isinstance(expected, float) and not exact:
        assert found == pytest.approx(expected, rel=2e-2, abs=2e-3)
    else:
        assert found == expected


def assert_same_weights(found: Path, expected: Path, exact: bool) -> None:
    ours, theirs = load_file(found), load_file(expected)
    assert ours.keys() == theirs.keys()
    assert any(value.abs().max() > 0 for key, value in theirs.items() if "lora_B" in key)
    if exact:
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    moved = torch.cat([(ours[key] - value).flatten().float() for key, value in theirs.items()])
    whole = torch.cat([value.flatten().float() for value in theirs.values()])
    assert (
        moved.norm() < 0.02 * whole.norm()
    )  # AdamW makes a step of any gradient, also of one that rounding has turned


def test_a_run_of_0_3_0_resumes_as_0_3_0_resumes_it(host, modules, execute, same_arithmetic):
    name = "v030_train_00001"
    folder = modules.folders.places().runs / name
    shutil.copytree(DATA / name, folder)
    graph = prompt("train")
    graph["train"]["inputs"] |= {"resume": name, "iterations": 6}
    execute(graph, ["train"])
    expected = DATA / "resumed"
    for file in ("metrics.jsonl", "guard.jsonl"):
        assert_same_numbers(records(folder / file), records(expected / file), same_arithmetic)
    evaluations = [json.loads((each / "evaluations.json").read_text()) for each in (folder, expected)]
    assert_same_numbers(*evaluations, same_arithmetic)
    assert_same_weights(folder / "best.safetensors", expected / "best.safetensors", same_arithmetic)
    assert_same_weights(modules.folders.places().lora(name), expected / "lora.safetensors", same_arithmetic)


@pytest.mark.parametrize(("name", "end", "made"), [("train", "train", "v030_train_00001"), ("loop", "finish", "loop")])
def test_prompts_of_0_3_0_run_and_train_the_same_lora(modules, execute, same_arithmetic, name, end, made):
    graph = prompt(name)
    run = f"again_{name}"
    owner = graph["train" if name == "train" else "begin"]["inputs"]
    owner["run_name"] = run
    execute(graph, [end])
    folder = modules.folders.places().runs / f"{run}_00001"
    assert_same_numbers(records(folder / "metrics.jsonl"), records(DATA / made / "metrics.jsonl"), same_arithmetic)
    assert_same_weights(modules.folders.places().lora(folder.name), DATA / made / "lora.safetensors", same_arithmetic)


def test_a_recipe_of_0_3_0_gives_its_settings_back(host, modules, execute):
    target = host.base / "output" / "loras" / "of_0_3_0.safetensors"
    shutil.copy(DATA / "v030_train_00001" / "lora.safetensors", target)
    host.folder_paths.filename_list_cache.clear()
    shown = execute(
        {"recipe": node("PaveLoRARecipe", lora=target.name), "text": node("PreviewAny", source=["recipe", 5])}, ["text"]
    )
    (text,) = shown["text"]["text"]
    for setting in ("warmup_steps: 1", "segments: [2, 3]", "targets: attention", "cfg: 1.5", "group_size: 3"):
        assert setting in text


def test_the_nodes_are_those_of_0_3_0(client):
    expected = json.loads((DATA / "object_info.json").read_text())
    info = json.loads(client.get("/object_info"))
    found = {name: without_texts(info[name]) for name in info if name.startswith("Pave")}
    assert found.keys() - expected.keys() == NEW_NODES
    assert expected.keys() <= found.keys()
    for name, described in expected.items():
        assert as_ours(without_new_sockets(found[name])) == as_ours(described), name


def without_new_sockets(described: dict[str, Any]) -> dict[str, Any]:
    """An entry without the sockets that were added after 0.3.0. They are no widgets, and optional, so that graphs and
    prompts without them go on working.
    """
    optional = described["input"].get("optional", {})
    kept = {name: spec for name, spec in optional.items() if spec[0] not in NEW_SOCKETS}
    order = {kind: list(names) for kind, names in described["input_order"].items()}
    if "optional" in order:
        order["optional"] = [name for name in order["optional"] if name in kept]
    inputs = described["input"] | ({"optional": kept} if optional else {})
    empty = not kept
    if empty:
        inputs, order = ({k: v for k, v in each.items() if k != "optional"} for each in (inputs, order))
    return described | {"input": inputs, "input_order": order}


def without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_texts(item) for key, item in value.items() if key not in TEXTS}
    return [without_texts(item) for item in value] if isinstance(value, list) else value


def as_ours(described: dict[str, Any]) -> dict[str, Any]:
    """What is ours in an entry: not the files that a folder lists at the moment, nor keys that other hosts add."""
    inputs: dict[str, Any] = {}
    for kind, entries in described["input"].items():
        for name, (type, *options) in entries.items():
            plain = dict(options[0]) if options else {}
            if type == "INT":
                plain.setdefault("step", 1)  # as the page does
            if name in (
                "resume",
                "lora",
                "file",
                "checkpoint",
                "clip_weights",
                "siglip_weights",
                "vocabulary",
                "reward",
            ):
                plain.pop("options", None)
            inputs[name] = [kind, type, plain]
    keys = ("input_order", "output", "output_is_list", "output_name", "name", "display_name", "category", "output_node")
    return {"inputs": inputs} | {key: described[key] for key in keys}
