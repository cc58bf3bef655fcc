"""What 0.3.0 wrote goes on working: a run resumes, a recipe reads, prompts run, nodes have what they had.

The numbers are those of 0.3.0 within what rounding makes of them: the adapter's product and the gradient of the loss
are summed in another order since.

The data are in tests/data/v0_3_0.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from _training_graphs import node
from pave_core.config.presets import RENAMED

DATA = Path(__file__).resolve().parents[1] / "data" / "v0_3_0"
TEXTS = ("tooltip", "description", "output_tooltips", "python_module")
"""Keys of /object_info whose values may be improved."""
GROWN = ("targets", "preset")
"""Widgets that have got further options, or others that mean what the old ones did."""
BEGINS_ELSEWHERE = {"guidance": ("default", "min"), "iterations": ("min",), "state": ("rawLink",)}
"""Inputs of which a new node has another value or range, and that of a saved graph means what it meant."""


def prompt(name: str) -> dict[str, Any]:
    return json.loads((DATA / "prompts" / f"{name}.json").read_text())


def records(file: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, file.read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in ("seconds", "memory")} for line in lines]


def assert_same_numbers(found: Any, expected: Any) -> None:
    """`found` holds everything that `expected` holds; floats are equal within what rounding makes of them."""
    if isinstance(expected, dict):
        assert expected.keys() <= found.keys()
        for key in expected:
            assert_same_numbers(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same_numbers(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-2, abs=2e-3)
    else:
        assert found == expected


def assert_same_weights(found: Path, expected: Path) -> None:
    ours, theirs = load_file(found), load_file(expected)
    assert ours.keys() == theirs.keys()
    assert any(value.abs().max() > 0 for key, value in theirs.items() if "lora_B" in key)
    moved = torch.cat([(ours[key] - value).flatten().float() for key, value in theirs.items()])
    whole = torch.cat([value.flatten().float() for value in theirs.values()])
    assert (
        moved.norm() < 0.02 * whole.norm()
    )  # AdamW makes a step of any gradient, also of one that rounding has turned


def readings(file: Path) -> list[dict[str, Any]]:
    """The guard's, with the number of alarms for their words, which have changed since."""
    return [record | {"alarms": len(record["alarms"])} for record in records(file)]


@pytest.fixture
def _base(modules, monkeypatch):
    """The bundled model of 0.3.0: its runs resume on no other."""
    for name in ("DIFFUSION_MODEL", "TEXT_ENCODER", "VAE"):
        monkeypatch.setattr(modules.tiny, name, DATA / "base" / f"{name.lower()}.safetensors")


@pytest.mark.usefixtures("_base")
def test_a_run_of_0_3_0_resumes_as_0_3_0_resumes_it(host, modules, execute):
    name = "v030_train_00001"
    folder = modules.folders.places().runs / name
    shutil.copytree(DATA / name, folder)
    graph = prompt("train")
    graph["train"]["inputs"] |= {"resume": name, "iterations": 6}
    execute(graph, ["train"])
    expected = DATA / "resumed"
    assert_same_numbers(records(folder / "metrics.jsonl"), records(expected / "metrics.jsonl"))
    assert_same_numbers(*(readings(each / "guard.jsonl") for each in (folder, expected)))
    evaluations = [json.loads((each / "evaluations.json").read_text()) for each in (folder, expected)]
    since = {"gain", "gain_se"}  # which 0.3.0 did not write
    evaluations[0] = [{name: record[name] for name in record.keys() - since} for record in evaluations[0]]
    assert_same_numbers(*evaluations)
    assert_same_weights(folder / "best.safetensors", expected / "best.safetensors")
    assert_same_weights(modules.folders.places().lora(name), expected / "lora.safetensors")


@pytest.mark.usefixtures("_base")
@pytest.mark.parametrize(("name", "end", "made"), [("train", "train", "v030_train_00001"), ("loop", "finish", "loop")])
def test_prompts_of_0_3_0_run_and_train_the_same_lora(modules, execute, name, end, made):
    graph = prompt(name)
    run = f"again_{name}"
    owner = graph["train" if name == "train" else "begin"]["inputs"]
    owner["run_name"] = run
    execute(graph, [end])
    folder = modules.folders.places().runs / f"{run}_00001"
    assert_same_numbers(records(folder / "metrics.jsonl"), records(DATA / made / "metrics.jsonl"))
    assert_same_weights(modules.folders.places().lora(folder.name), DATA / made / "lora.safetensors")


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
    assert found.keys() >= expected.keys()
    for name, described in expected.items():
        now, then = as_ours(found[name]), as_ours(described)
        added = now["inputs"].keys() - then["inputs"].keys()
        assert all(now["inputs"].pop(key)[0] in ("optional", "hidden") for key in added), name
        for kind, order in then["input_order"].items():
            if kind == "hidden":
                continue
            assert now["input_order"][kind][: len(order)] == order, name  # saved graphs have values by place
        now["input_order"] = then["input_order"]
        assert now == then, name
        for widget, entry in described["input"]["required"].items():
            if widget in GROWN:
                known = {RENAMED.get(option, option) for option in entry[1]["options"]}
                assert known <= {*found[name]["input"]["required"][widget][1]["options"]}


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
            plain.pop("advanced", None)  # whether it is folded away: values have the same places
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
                *GROWN,
            ):
                plain.pop("options", None)
            for key in BEGINS_ELSEWHERE.get(name, ()):
                plain.pop(key, None)
            inputs[name] = [kind, type, plain]
    keys = ("input_order", "output", "output_is_list", "output_name", "name", "display_name", "category", "output_node")
    return {"inputs": inputs} | {key: described[key] for key in keys}
