"""The pack in the real server: queue, cancel, resume, and what is refused before it runs."""

import copy
import json
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from _host.client import PromptError

GRAPH = {
    "model": {"class_type": "PaveTinyModel", "inputs": {}},
    "prompts": {
        "class_type": "PavePrompts",
        "inputs": {
            "text": "a red circle on a dark background\n# no prompt\n\na blue star on a light background",
            "file": "none",
            "held_out": 0.5,
            "seed": 0,
        },
    },
    "reward": {"class_type": "PaveColour", "inputs": {"red": 1.0, "green": 0.5, "blue": 0.0, "softness": 0.5}},
    "train": {
        "class_type": "PaveTrain",
        "inputs": {
            "model": ["model", 0],
            "clip": ["model", 1],
            "vae": ["model", 2],
            "prompts": ["prompts", 0],
            "reward": ["reward", 0],
            "preset": "custom",
            "iterations": 2,
            "prompts_per_step": 1,
            "learning_rate": 1e-3,
            "rank": 2,
            "alpha": 4.0,
            "targets": "attention",
            "steps": 3,
            "branch_steps": "0, 1",
            "group_size": 2,
            "eta": 0.8,
            "segments": "2, 3",
            "advantage_clip": 5.0,
            "batch_size": 8,
            "checkpoint_every": 5,
            "init": "gaussian",
            "weight_decay": 1e-4,
            "max_grad_norm": 1.0,
            "warmup_steps": 0,
            "optimizer_step": "accumulated",
            "seed": 0,
            "width": 64,
            "height": 64,
            "cfg": 1.0,
            "run_name": "server",
            "resume": "none",
            "negative_prompt": "",
            "guidance": 3.5,
            "scheduler": "simple",
            "evaluation_seeds": 1,
            "evaluate_every": 0,
        },
    },
    "save": {"class_type": "PaveSaveLoRA", "inputs": {"lora": ["train", 1], "name": "server_lora"}},
}


def graph(**train):
    """GRAPH with other widgets on Pave Train."""
    prompt = copy.deepcopy(GRAPH)
    prompt["train"]["inputs"] |= train
    return prompt


def kinds(events, kind):
    return [event.data for event in events if event.kind == kind]


def test_train_save_generate_and_the_stock_loader_in_one_queue(client, server):
    prompt = graph(run_name="whole")
    prompt |= {
        "text": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": "a red circle on a dark background", "clip": ["model", 1]},
        },
        "empty": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sample": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["train", 0],
                "positive": ["text", 0],
                "negative": ["text", 0],
                "latent_image": ["empty", 0],
                "seed": 1,
                "steps": 4,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
            },
        },
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}},
        "image": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
        "curve": {"class_type": "PreviewImage", "inputs": {"images": ["train", 3]}},
        "grid": {"class_type": "PreviewImage", "inputs": {"images": ["train", 4]}},
        "summary": {"class_type": "PreviewAny", "inputs": {"source": ["train", 5]}},
        "loss": {"class_type": "LossGraphNode", "inputs": {"loss": ["train", 2], "filename_prefix": "loss"}},
        "host_save": {"class_type": "SaveLoRA", "inputs": {"lora": ["train", 1], "prefix": "loras/by_host"}},
    }
    prompt_id = client.queue(prompt)
    events = list(client.events(prompt_id, timeout=300))
    assert kinds(events, "execution_error") == []
    steps = kinds(events, "pave.step")
    assert [(s["node"], s["step"], s["steps"]) for s in steps] == [("train", 1, 2), ("train", 2, 2)]
    assert all(
        isinstance(s[name], float)
        for s in steps
        for name in ("reward_mean", "reward_std", "loss", "grad_norm", "seconds")
    )
    bars = [state["nodes"]["train"] for state in kinds(events, "progress_state") if "train" in state["nodes"]]
    assert any((bar["value"], bar["max"]) == (2, 2) for bar in bars)
    outputs = client.history(prompt_id)["outputs"]
    assert "2 steps in" in outputs["summary"]["text"][0]
    for node in ("image", "curve", "grid"):
        assert client.view(**outputs[node]["images"][0]).startswith(b"\x89PNG")
    path = Path(outputs["save"]["text"][0].removeprefix("saved "))
    assert path == server.output / "loras" / "server_lora.safetensors"
    assert path.is_file()
    picture = path.with_suffix(".png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert picture in [file.read_bytes() for file in server.output.glob("loras/pave/*.png")], "that of the run"
    listed = client.object_info()["LoraLoader"]["input"]["required"]["lora_name"][0]
    assert "server_lora.safetensors" in listed
    assert any(name.startswith("by_host") for name in listed)

    load = {
        **prompt,
        "loader": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["model", 0], "lora_name": "server_lora.safetensors", "strength_model": 1.0},
        },
        "sample": {**prompt["sample"], "inputs": {**prompt["sample"]["inputs"], "model": ["loader", 0]}},
    }
    again = client.queue(load)
    events = list(client.events(again, timeout=300))
    assert kinds(events, "pave.step") == [], "the host's cache must not train again for a change downstream"
    assert client.view(**client.history(again)["outputs"]["image"]["images"][0]).startswith(b"\x89PNG")
    assert "lora key not loaded" not in server.log.read_text(errors="replace")


def test_cancel_keeps_the_work_and_resume_goes_on(client, server):
    prompt_id = client.queue(graph(run_name="stopped", iterations=500, seed=11))
    events = []
    cancelled = 0.0
    for event in client.events(prompt_id, timeout=300):
        events.append(event)
        if event.kind == "pave.step" and not cancelled:
            client.interrupt()
            cancelled = time.monotonic()
    assert kinds(events, "execution_interrupted")
    done = len(kinds(events, "pave.step"))
    assert 1 <= done < 100
    folder = server.output / "pave" / "stopped_00001"
    lora = server.output / "loras" / "pave" / "stopped_00001.safetensors"
    assert (folder / "checkpoint.safetensors").is_file()
    assert lora.is_file()
    log = server.log.read_text(errors="replace")
    assert f"cancelled after step {done}" in log
    assert str(lora) in log
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == done

    info = client.object_info()["PaveTrain"]["input"]["required"]
    assert "stopped_00001" in info["resume"][0] or "stopped_00001" in info["resume"][1]["options"]
    client.run(graph(run_name="stopped", iterations=done + 1, seed=11, resume="stopped_00001"), timeout=300)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == done + 1
    assert json.loads((folder / "summary.json").read_text())["steps"] == done + 1


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"branch_steps": "0, 2"}, "branch_steps: 2 is the last of 3 steps"),
        ({"branch_steps": "0, 7"}, r"branch_steps: 7 is outside \[0, 3\): lower it or raise steps"),
        ({"branch_steps": "zero"}, "branch_steps: 'zero' is not a list of whole numbers"),
        ({"segments": "1, 2"}, "segments: 1 is below 2"),
        ({"segments": "2, 2"}, "segments: 2, 2 repeats a number"),
        ({"run_name": "../escape"}, "run_name: '../escape' is not a plain file name"),
        ({"group_size": 1}, "Value 1 smaller than min of 2: group_size"),
        ({"eta": 0.0}, "smaller than min of 0.01: eta"),
    ],
)
def test_bad_widgets_are_refused_before_anything_runs(client, widgets, message):
    with pytest.raises(PromptError, match=rf"PaveTrain \(node train\): .*{message}"):
        client.queue(graph(**widgets))


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"resume": "../../etc"}, "resume: '../../etc' is not known: choose one of none"),
        ({"resume": "gone_00001"}, "resume: 'gone_00001' is not known: choose one of none"),
        ({"targets": "everything"}, "targets: 'everything' is not known"),
        ({"width": 72, "height": 60}, "height: 60 is not a multiple of 8"),
    ],
)
def test_what_the_host_lets_through_is_refused_before_training(client, server, widgets, message):
    """Older hosts do not check the choices of V3 nodes; newer ones refuse them in their own words."""
    theirs = f"Value not in list: {next(iter(widgets))}: .*not in"
    with pytest.raises(PromptError, match=rf"PaveTrain \(node train\): .*({message}|{theirs})"):
        client.run(graph(run_name="refused", **widgets), timeout=120)
    assert not list((server.output / "pave").glob("refused_*"))


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "C:\\x"])
def test_a_lora_name_with_a_path_is_refused(client, name):
    prompt = graph()
    prompt["save"]["inputs"]["name"] = name
    with pytest.raises(PromptError, match=r"PaveSaveLoRA \(node save\): .*name: .* is not a plain file name"):
        client.queue(prompt)


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("wired", [False, True], ids=["typed", "wired"])
def test_the_numbers_that_the_server_gets_count_whatever_preset_is_shown(client, server, preset, wired):
    name = f"preset_{preset}_{wired}"
    prompt = graph(preset=preset, iterations=3, run_name=name)
    if wired:
        prompt["count"] = {"class_type": "PrimitiveInt", "inputs": {"value": 3}}
        prompt["train"]["inputs"]["iterations"] = ["count", 0]
    client.run(prompt, timeout=300)
    with safe_open(server.output / "loras" / "pave" / f"{name}_00001.safetensors", "pt") as file:
        recipe = json.loads(file.metadata()["pave_recipe"])
    assert recipe["step"] == recipe["config"]["run"]["iterations"] == 3
    assert recipe["config"]["rollout"]["group_size"] == GRAPH["train"]["inputs"]["group_size"]
    assert recipe["config"]["lora"]["rank"] == GRAPH["train"]["inputs"]["rank"]
    assert f"preset {preset} was changed: iterations 3 instead of" in server.log.read_text()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"preset": "papers"}, "preset: 'papers' is not known: choose one of custom, pave"),
        ({"preset": "mix-grpo", "steps": 3, "branch_steps": "0, 1"}, "window_every: 25 with branch_steps"),
        ({"preset": "ada-grpo", "prompts_per_step": 11}, "candidates: 10 with prompts_per_step 11: a step's prompts"),
        ({"preset": "flow-grpo", "optimizer_step": "per_step"}, "optimizer_step: per_step with ratio clip"),
        ({"segments": "2, 2"}, "segments: 2, 2 repeats a number"),
    ],
)
def test_what_a_preset_sets_and_a_field_that_excludes_it_are_refused_when_queued(client, inputs, message):
    with pytest.raises(PromptError, match=rf"PaveTrain \(node train\): .*{message}"):
        client.queue(graph(run_name="refused", **inputs))


def test_no_prompts_is_an_error_of_that_node(client):
    prompt = graph()
    prompt["prompts"]["inputs"]["text"] = "# nothing but a comment\n"
    with pytest.raises(PromptError, match=r"PavePrompts \(node prompts\): .*prompts: there are none"):
        client.queue(prompt)


def test_prompts_come_from_a_file_too(client, server):
    (server.folder / "input" / "mine.txt").write_text(
        "a green square on a dark background\na red square on a dark background\n", encoding="utf-8"
    )
    (server.folder / "input" / "latin1.txt").write_bytes(b"caf\xe9")
    prompt = graph(run_name="file", iterations=1)
    prompt["prompts"]["inputs"] |= {"text": "", "file": "mine.txt"}
    client.run(prompt, timeout=300)
    step = json.loads((server.output / "pave" / "file_00001" / "metrics.jsonl").read_text().splitlines()[0])
    assert step["prompts"][0].split()[2] == "square"
    prompt["prompts"]["inputs"]["file"] = "latin1.txt"
    with pytest.raises(PromptError, match=r"file: 'latin1\.txt' cannot be read as UTF-8"):
        client.queue(prompt)
    prompt["prompts"]["inputs"]["file"] = "../../secret.txt"
    with pytest.raises(PromptError, match=r"file: '\.\./\.\./secret\.txt' is not a \.txt file of the input folder"):
        client.queue(prompt)


def test_linked_settings_are_checked_when_the_node_runs(client):
    prompt = graph(run_name="linked")
    prompt |= {
        "steps": {"class_type": "PrimitiveInt", "inputs": {"value": 2}},
        "text": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "# only a comment"}},
    }
    prompt["train"]["inputs"]["steps"] = ["steps", 0]
    with pytest.raises(PromptError, match=r"PaveTrain \(node train\): branch_steps: 1 is the last of 2 steps"):
        client.run(prompt, timeout=60)
    prompt["prompts"]["inputs"]["text"] = ["text", 0]
    with pytest.raises(PromptError, match=r"PavePrompts \(node prompts\): prompts: there are none"):
        client.run(prompt, timeout=60)


def test_every_node_says_what_it_is(client, root):
    nodes = {name: info for name, info in client.object_info().items() if name.startswith("Pave")}
    assert sorted(nodes) == sorted(page.stem for page in (root / "web" / "docs").glob("*.md"))
    for name, info in nodes.items():
        assert info["category"].split("/")[0] == "Pave-GRPO"
        assert len(info["description"]) > 40, name
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert all(spec[1].get("tooltip") for spec in inputs.values()), name
        assert all(info["output_tooltips"]), name
    assert nodes["PaveTrain"]["input"]["required"]["optimizer_step"][1]["advanced"] is True


def test_defaults_alone_are_valid(client):
    """A graph with every widget at its default passes validation (and is stopped at once: they are the paper's)."""
    info = client.object_info()
    prompt = copy.deepcopy(GRAPH)
    for node in prompt.values():
        specs = {k: v for group in info[node["class_type"]]["input"].values() for k, v in group.items()}
        for name, spec in specs.items():
            if len(spec) > 1 and "default" in spec[1]:
                node["inputs"][name] = spec[1]["default"]
    prompt["train"]["inputs"] |= {"width": 64, "height": 64, "iterations": 1}
    prompt_id = client.queue(prompt)
    for event in client.events(prompt_id, timeout=300):
        assert event.kind != "execution_error", event.data
        if event.kind in ("progress", "executing"):
            client.interrupt()
