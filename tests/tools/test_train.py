"""tools/train.py: the same run as Pave Train in the host, signals, resuming, and what it refuses."""

import copy
import dataclasses
import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from _small_runs import header
from _toy import lines, same
from _training_graphs import trained

PROMPT = "a red circle on a dark background"
STEPS = 4
CLOSE = 1e-6
COLOUR = {"name": "colour", "red": 1.0, "green": 0.5, "blue": 0.0, "softness": 0.5}
RECIPE = {
    "config": {
        "rollout": {"steps": 4, "branch_steps": [0, 1], "group_size": 4},
        "lora": {"rank": 2, "alpha": 4.0, "targets": "attention"},
        "optim": {"learning_rate": 5e-3},
        "run": {"iterations": STEPS, "prompts_per_step": 2, "seed": 3},
    },
    "reward": {"rewards": [COLOUR], "weights": [1.0], "normalise": "within group"},
    "judge": {"name": "adherence"},
    "guard": {"every": 2, "max_drop": 3.0, "held_out": None},
    "prompts": [PROMPT, "a blue star on a light background"],
    "held_out": ["a green square on a dark background", "a red star on a light background"],
    "sampling": {"width": 64, "height": 64, "scheduler": "simple"},
    "run": {"evaluation_seeds": 2, "check_reward": False},
}


def written(folder: Path, **changes) -> Path:
    """RECIPE with other entries, as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.json"
    file.write_text(json.dumps({**RECIPE, **changes}), "utf-8")
    return file


@pytest.fixture(scope="module")
def command(root, comfyui):
    """command(recipe, output, *more): the command line."""
    tool = [sys.executable, str(root / "tools" / "train.py")]
    return lambda recipe, output, *more: [
        *tool,
        str(recipe),
        "--comfyui",
        str(comfyui),
        "--cpu",
        "--output",
        str(output),
        *more,
    ]


def finished(process_of, code=0, env=None) -> str:
    """What a command says on stderr, when it ends with this code."""
    done = subprocess.run(process_of, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == code, done.stderr[-3000:] + done.stdout[-1000:]
    return done.stderr


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The output folder of an uninterrupted run of RECIPE."""
    folder = tmp_path_factory.mktemp("whole")
    finished(command(written(folder), folder))
    return folder


def left(output: Path, run="pave_00001") -> SimpleNamespace:
    """The adapter, its recipe and the metrics of a run."""
    lora, folder = output / "loras" / "pave" / f"{run}.safetensors", output / "pave" / run
    return SimpleNamespace(
        lora=load_file(lora),
        recipe=header(lora, "pave_recipe"),
        metrics=lines(folder / "metrics.jsonl"),
        evaluations=json.loads((folder / "evaluations.json").read_text("utf-8")),
        guard=lines(folder / "guard.jsonl") if (folder / "guard.jsonl").exists() else [],
    )


def test_a_lora_is_trained_again_as_pave_train_has_trained_it(host, pack, execute, command, tmp_path):
    execute(trained("origin"), ["train"])
    output = host.base / "output"
    theirs = left(output, "origin_00001")
    finished(command(output / "loras" / "pave" / "origin_00001.safetensors", tmp_path))
    ours = left(tmp_path)
    assert same(ours.lora, theirs.lora)
    assert ours.metrics == theirs.metrics
    assert len(ours.metrics) == 3
    assert ours.recipe == theirs.recipe


def test_a_run_leaves_everything(whole):
    folder = whole / "pave" / "pave_00001"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"metrics.jsonl", "checkpoint.safetensors", "best.safetensors", "guard.jsonl", "evaluations.json"}
    assert names >= {"summary.json", "curve.png", "grid.png", "recipe.json"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert [record["step"] for record in left(whole).metrics] == list(range(1, STEPS + 1))
    assert [reading["step"] for reading in left(whole).guard] == [2, 4]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_signal_saves_and_the_rest_gives_the_same(number, command, whole, tmp_path):
    metrics = tmp_path / "pave" / "pave_00001" / "metrics.jsonl"
    process = subprocess.Popen(command(written(tmp_path), tmp_path), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (metrics.exists() and lines(metrics)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, said[-3000:]
    assert f"stopped by {number.name} after step" in said
    assert "set resume to 'pave_00001'" in said
    assert 0 < len(lines(metrics)) < STEPS
    finished(command(metrics.parent, tmp_path, "--resume", "pave_00001"))  # the folder is the recipe
    resumed, uninterrupted = left(tmp_path), left(whole)
    assert same(resumed.lora, uninterrupted.lora)
    assert resumed.metrics == uninterrupted.metrics
    assert resumed.evaluations == uninterrupted.evaluations
    assert resumed.guard == uninterrupted.guard


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory):
    """The output folder of a run of several() in one process."""
    folder = tmp_path_factory.mktemp("alone")
    finished(command(several(folder), folder))
    return folder


def several(folder: Path, shard="both") -> Path:
    """RECIPE for several processes: 5 steps at a rate at which rounding stays below CLOSE."""
    config = RECIPE["config"]
    config = config | {"run": config["run"] | {"iterations": 5}, "optim": {"learning_rate": 1e-3}}
    return written(folder, config=config, processes={"shard": shard, "timeout": 120})


def furthest(one: Path, other: Path) -> float:
    """The largest difference of the LoRAs of two runs."""
    a, b = left(one).lora, left(other).lora
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def assert_alike(one: Path, other: Path) -> None:
    """The runs of several() in two output folders differ by rounding only."""
    difference = furthest(one, other)
    print(f"adapter within {difference:.1e} after 5 steps")
    assert difference <= CLOSE
    ours, theirs = left(one), left(other)
    assert [record["step"] for record in ours.metrics] == [1, 2, 3, 4, 5]
    for a, b in zip(ours.metrics, theirs.metrics, strict=True):
        for name in ("prompts", "groups", "zero_spread_groups", "skipped", "unscored", "flat_groups", "learning_rate"):
            assert a[name] == b[name]
        for name in ("reward_mean", "reward_std", "anchor_reward", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-4)
    assert ours.recipe == theirs.recipe


@pytest.mark.parametrize("shard", ["prompts", pytest.param("branches", marks=pytest.mark.long)])
def test_two_processes_give_what_one_gives(shard, root, command, alone, tmp_path):
    recipe = several(tmp_path, shard)
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2", "--cpu"]
    said = finished([*accelerate, *command(recipe, tmp_path, "--processes", "2")[1:]])
    assert said.count("Pave-GRPO step 5/5") == 1
    assert_alike(tmp_path, alone)
    assert [path.name for path in (tmp_path / "pave").iterdir()] == ["pave_00001"]


SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] || exit 64
shift
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 "$@" & tasks="$tasks $!"; done
for task in $tasks; do wait "$task" || exit; done
"""


@pytest.mark.long
@pytest.mark.parametrize("file", ["torchrun.sh", "slurm.sbatch"])
def test_the_files_for_clusters_start_two_processes(file, root, command, alone, tmp_path):
    """SLURM's srun is a stand-in that starts two tasks, as srun would, with the variables that it sets."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": "#!/bin/bash\necho 127.0.0.1\n"}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"PYTHON": sys.executable, "PROCESSES": "2", "PORT": str(port), "MASTER_PORT": str(port)}
    own |= {"SLURM_JOB_NODELIST": "here", "SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "1"}
    own |= {"SLURM_SUBMIT_DIR": str(root), "PATH": f"{commands}:{os.environ['PATH']}"}
    line = ["bash", str(root / "docs" / "clusters" / file), *command(several(tmp_path), tmp_path)[2:]]
    finished(line, env=os.environ | own)
    assert_alike(tmp_path, alone)


def test_the_job_for_kubernetes_runs_a_command_that_there_is(root, tmp_path):
    service, job = yaml.safe_load_all((root / "docs" / "clusters" / "kubernetes.yaml").read_text("utf-8"))
    pods = job["spec"]["template"]["spec"]
    container = pods["containers"][0]
    words = shlex.split(container["args"][0])
    assert words[:4] == ["exec", "python", "-m", "torch.distributed.run"]
    options = dict(zip(words[4::2], words[5::2], strict=False))
    assert int(options["--nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(options["--nproc-per-node"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert options["--master-addr"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pods["subdomain"] == service["metadata"]["name"]
    assert int(options["--master-port"]) == service["spec"]["ports"][0]["port"]
    tool = words[words.index("tools/train.py") :]
    said = finished([sys.executable, str(root / tool[0]), *tool[1:]], code=1)
    assert "there is no ComfyUI in /disk/ComfyUI" in said  # its arguments are understood


@pytest.mark.long
def test_the_job_for_kubernetes_trains_in_two_pods(root, command, alone, tmp_path):
    """Pods are processes here, with one process each, and the name of the first is this machine's."""
    _, job = yaml.safe_load_all((root / "docs" / "clusters" / "kubernetes.yaml").read_text("utf-8"))
    line = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = {"exec python": f"exec {sys.executable}", "--nproc-per-node 8": "--nproc-per-node 1"}
    here |= {"pave-0.pave": "127.0.0.1", "--master-port 29500": f"--master-port {port}"}
    for theirs, ours in here.items():
        assert line.count(theirs) == 1
        line = line.replace(theirs, ours)
    line = line[: line.index("tools/train.py")] + shlex.join(command(several(tmp_path), tmp_path)[1:])
    pods = [
        subprocess.Popen(
            ["bash", "-c", line],
            cwd=root,
            env=os.environ | {"JOB_COMPLETION_INDEX": index, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in ("0", "1")
    ]
    said = [pod.communicate(timeout=300)[1] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], said
    assert_alike(tmp_path, alone)


def test_accelerate_without_the_number_is_told_what_to_add(command, tmp_path):
    """On the CPU it starts one process, whatever number it is given."""
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2", "--cpu"]
    said = finished([*accelerate, *command(several(tmp_path), tmp_path)[1:]], code=1)
    assert "processes: the launcher names a MASTER_ADDR and has started one process" in said


@pytest.mark.long
@pytest.mark.parametrize("end", ["the launcher is told to end", "process 1 is killed"])
def test_when_two_processes_end_early_the_rest_gives_the_same(end, command, alone, tmp_path):
    metrics = tmp_path / "pave" / "pave_00001" / "metrics.jsonl"
    log = tmp_path / "log"
    with log.open("wb") as file:
        launcher = subprocess.Popen(command(several(tmp_path), tmp_path, "--processes", "2"), stderr=file, stdout=file)
    deadline = time.monotonic() + 120
    while not (metrics.exists() and lines(metrics)) and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    processes = psutil.Process(launcher.pid).children()
    assert len(processes) == 2
    if end == "process 1 is killed":
        (one,) = (process for process in processes if process.environ()["RANK"] == "1")
        one.kill()
    else:
        launcher.terminate()
    assert launcher.wait(60) != 0
    assert not psutil.wait_procs(processes, 10)[1]
    said = log.read_text("utf-8")
    assert "Pave-GRPO stopped" in said, said[-4000:]
    assert 0 < len(lines(metrics)) < 5
    finished(command(metrics.parent, tmp_path, "--resume", "pave_00001"))
    assert_alike(tmp_path, alone)


def test_what_cannot_work_ends_with_a_message_and_leaves_nothing(command, tmp_path):
    said = finished(command(written(tmp_path, wat=1), tmp_path), code=1)
    assert "recipe.wat: not a known setting: remove it" in said
    assert not (tmp_path / "pave").exists()


@pytest.fixture(scope="module")
def tool(host):
    """The tool's modules in this process."""
    from _train import comfyui, models, recipe, rewards, run, world

    files = models.files_of_comfyui(host.base, None)

    def make(made, folder=None):
        return models.make(made, files, folder=folder, cpu=True, check=lambda: None)

    parts = {"models": models, "recipe": recipe, "rewards": rewards, "run": run, "world": world}
    return SimpleNamespace(make=make, loaded=comfyui.loaded, **parts)


def changed(path: str, value) -> dict:
    """RECIPE with another value at a place such as "config.run.seed"."""
    values = copy.deepcopy(RECIPE)
    *parents, last = path.split(".")
    here = values
    for name in parents:
        here = here.setdefault(name, {})
    here[last] = value
    return values


BAD = [
    ("config.run.wat", 1, "config.run.wat: not a known setting"),
    ("config.run.iterations", 0, "iterations: 0 is below 1"),
    ("run.wat", 1, "run.wat: not a known setting: remove it, or use one of name"),
    ("run.name", 3, "run_name: 3 is not a text"),
    ("files.wat", 1, "files.wat: not a known setting: remove it, or use one of bundled"),
    ("processes.shard", "images", "shard: 'images' is not known: choose one of prompts, branches, both"),
    ("processes.timeout", 0, "timeout: 0 is below 1.0: give more seconds"),
    ("guard.wat", 1, "guard.wat: not a known setting"),
    ("guard.every", 0, "every: 0 is below 1"),
    ("pack", "99.0.0", "pack: the recipe is of version 99.0.0, this is "),
    ("pack", "new", "pack: 'new' is no version"),
    ("model", 3, "model: 3 is no fingerprint"),
    ("prompts", [], "prompts: the recipe has no list of prompts"),
    ("sampling", None, "sampling: None is not a group of settings"),
]


@pytest.mark.parametrize(("place", "value", "said"), BAD)
def test_a_recipe_that_cannot_work_is_refused(tool, place, value, said):
    with pytest.raises(tool.recipe.ConfigError) as refused:
        tool.recipe.checked(changed(place, value))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("r.json", "{", "recipe: r.json cannot be read as JSON"),
        ("r.json", "[" * 100_000, "recipe: r.json cannot be read as JSON"),
        ("r.json", "[]", "recipe: r.json holds [], no group of settings"),
        ("r.safetensors", "wat", "lora: r.safetensors cannot be read"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tool, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(tool.recipe.ConfigError) as refused:
        tool.recipe.read(tmp_path / name)
    assert said in str(refused.value)
    with pytest.raises(tool.recipe.ConfigError, match=r"recipe: none.json does not exist"):
        tool.recipe.read(tmp_path / "none.json")


NAMED = {"diffusion_model": "a", "vae": "b", "text_encoders": ["c"], "clip_type": "sd3"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"diffusers": "../secret"}, "pipeline: '../secret' is not in models/diffusers"),
        ({"diffusers": ["a"]}, r"files.diffusers: ['a'] is no name of a folder"),
        ({"diffusers": None}, r"files.diffusers: None is no name of a folder"),
        ({"diffusers": "tiny, random weights", "precision": "int3"}, "files.precision: 'int3' is not known"),
        ({"diffusers": "tiny, random weights", "vae": "b"}, "files.vae: not a known setting"),
    ],
)
def test_pipelines_that_cannot_be_loaded_are_refused(tool, files, said, tmp_path):
    recipe = tool.recipe.read(written(tmp_path, files=files))
    with pytest.raises(tool.recipe.ConfigError) as refused:
        tool.make(recipe)
    assert said in str(refused.value)


SAMPLING = RECIPE["sampling"]


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"scheduler": "karras"}, "scheduler: 'karras' is one of ComfyUI's, and a pipeline brings its own"),
        ({"sigmas": "1 0"}, "sigmas: '1 0' is not a list of numbers"),
        ({"sigmas": [1, 0]}, "sigmas: 2 values for 4 steps, expected 5"),
        ({"width": 65}, "pipeline: AuraFlowPipeline cannot run with width 65, height 64"),
        ({"width": 8}, "width: 8 is below 16"),
        ({"wat": 1}, "sampling.wat: not a known setting"),
    ],
)
def test_pictures_that_a_pipeline_cannot_draw_are_refused(tool, sampling, said, tmp_path):
    files = {"diffusers": "tiny, random weights"}
    recipe = tool.recipe.read(written(tmp_path, files=files, sampling=SAMPLING | sampling))
    with pytest.raises(tool.recipe.ConfigError) as refused:
        tool.make(recipe)
    assert said in str(refused.value)


def test_a_lora_of_a_pipeline_does_not_say_where_it_lies(tool, tmp_path):
    recipe = tool.recipe.read(written(tmp_path, pipeline="AuraFlowPipeline"))
    with pytest.raises(tool.recipe.ConfigError, match=r"files.diffusers: None is no name.*give a folder by --model"):
        tool.make(recipe)
    with pytest.raises(tool.recipe.ConfigError, match=r"pipeline: .* has no model_index.json"):
        tool.make(recipe, tmp_path)


def test_without_comfyui_its_files_cannot_be_loaded(tool, tmp_path):
    files = tool.models.files_of_folder(None, tmp_path)
    for recipe, said in (
        ({}, r"files: \{'bundled': True\} are ComfyUI's, and there is no ComfyUI: give --comfyui PATH"),
        ({"files": {"diffusers": "a"}}, "files.diffusers: 'a': no folder of models is named: give its folder by"),
    ):
        with pytest.raises(tool.recipe.ConfigError, match=said):
            tool.models.make(tool.recipe.checked(RECIPE | recipe), files, folder=None, cpu=True, check=lambda: None)
    named = tool.models.files_of_folder(tmp_path, tmp_path)
    with pytest.raises(tool.recipe.ConfigError, match=r"files.diffusers: '../a': it is not in .*diffusers: give"):
        named.pipeline("../a")


def test_rewards_are_found_in_a_folder_without_comfyui(tool, tmp_path):
    for name in ("reward_models/a.safetensors", "clip_vision/b/c.safetensors", "text_encoders/vocab.txt", "vae/d.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    found = tool.models.files_of_folder(tmp_path, tmp_path).reward_files()
    assert [path.name for path in found] == ["a.safetensors", "c.safetensors", "vocab.txt"]


def test_a_pipeline_trains_where_there_is_no_comfyui_in_one_process_and_in_two(root, tmp_path):
    """A folder that diffusers has written; the host's modules, should any be imported, raise."""
    from pave_core.policies.diffusers.tiny import tiny_pipeline

    tiny_pipeline().save_pretrained(tmp_path / "models" / "diffusers" / "mine")
    for name in ("comfy", "comfy_api", "folder_paths", "nodes"):
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "none" / f"{name}.py").write_text("raise ImportError('there is no ComfyUI here')")
    env = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    env |= {"PYTHONPATH": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"}
    config = RECIPE["config"]
    config = config | {"run": config["run"] | {"iterations": 5}, "optim": {"learning_rate": 1e-3}}
    changes = {"config": config, "judge": None, "guard": None, "processes": {"shard": "both"}}
    tool = [sys.executable, str(root / "tools" / "train.py")]
    named = written(tmp_path, **changes, files={"diffusers": "mine", "precision": "fp32"})
    one = [*tool, str(named), "--models", str(tmp_path / "models"), "--cpu", "--output", str(tmp_path / "one")]
    said = finished(one, env=env)
    assert "Pave-GRPO step 5/5" in said
    assert re.search("Pave-GRPO time: about .* for 5 steps of .* and 1 measurement of ", said)
    given = written(tmp_path / "given", **changes, files={"precision": "fp32"}, pipeline="AuraFlowPipeline")
    folder = ["--model", str(tmp_path / "models" / "diffusers" / "mine"), "--models", str(tmp_path)]
    two = [*tool, str(given), *folder, "--cpu", "--output", str(tmp_path / "two"), "--processes", "2"]
    assert "Pave-GRPO time:" not in finished(two, env=env)  # what it costs to share a step out is not known
    assert all(record["grad_norm"] > 0 for record in left(tmp_path / "one").metrics)
    assert_alike(tmp_path / "two", tmp_path / "one")


@pytest.mark.long
def test_a_pipeline_trains_without_a_graph_and_goes_on_where_it_was(command, tmp_path):
    tiny = {"files": {"diffusers": "tiny, random weights", "precision": "fp32"}, "judge": None, "guard": None}
    finished(command(written(tmp_path / "whole", **tiny), tmp_path / "out"))
    half = copy.deepcopy(RECIPE["config"])
    half["run"]["iterations"] = 2
    finished(command(written(tmp_path / "half", **tiny, config=half), tmp_path / "other"))
    resumed = command(written(tmp_path / "rest", **tiny), tmp_path / "other", "--resume", "pave_00001")
    finished(resumed)
    one, other = left(tmp_path / "out"), left(tmp_path / "other")
    assert len(one.metrics) == STEPS
    assert all(record["grad_norm"] > 0 for record in one.metrics)
    assert same(one.lora, other.lora)
    again = written(tmp_path / "again", **{key: value for key, value in one.recipe.items() if key != "step"} | tiny)
    finished(command(again, tmp_path / "third"))
    assert same(one.lora, left(tmp_path / "third").lora)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"checkpoint": "../secret.safetensors"},
            "files.checkpoint: '../secret.safetensors' leaves models/checkpoints",
        ),
        ({"checkpoint": "..\\secret"}, "leaves models/checkpoints"),
        ({"checkpoint": "/etc/passwd"}, "files.checkpoint: '/etc/passwd' leaves models/checkpoints"),
        ({"checkpoint": 3}, "files.checkpoint: 3 leaves models/checkpoints"),
        ({"checkpoint": "none.safetensors"}, "files.checkpoint: 'none.safetensors' is not in models/checkpoints"),
        ({"checkpoint": "a", "diffusion_model": "b"}, "files.diffusion_model: not a known setting"),
        ({"checkpoint": "a", "clip_type": "sd3", "vae": "../b"}, "files.clip_type: not a known setting"),
        ({"checkpoint": "a", "clip_type": "wat", "text_encoders": ["a"]}, "files.clip_type: 'wat' is not known"),
        ({"diffusion_model": "a"}, "files.text_encoders: it is missing"),
        (NAMED | {"text_encoders": "c"}, "files.text_encoders: 'c' is no list of names"),
        (NAMED | {"clip_type": "wat"}, "files.clip_type: 'wat' is not known: choose one of"),
        (NAMED | {"weight_dtype": "int3"}, "files.weight_dtype: 'int3' is not known"),
        (NAMED | {"diffusion_model": "../a"}, "files.diffusion_model: '../a' leaves models/diffusion_models"),
    ],
)
def test_files_that_cannot_be_loaded_are_refused(tool, files, said):
    with pytest.raises(tool.recipe.ConfigError) as refused:
        tool.loaded(files)
    assert said in str(refused.value)


def test_the_hosts_own_files_are_loaded_as_the_stock_loaders_do(tool, host, modules, stock):
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, vocab_size=49408
    )
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in CLIPTextModel(config).state_dict().items()}
    encoder = host.base / "models" / "text_encoders" / "clip_l.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": torch.zeros(size) for name, size in shapes.items()}
    save_file({name: value.half() for name, value in weights.items() if "position_ids" not in name}, encoder)
    tiny = modules.tiny
    files = {"diffusion_model": tiny.DIFFUSION_MODEL.name, "vae": tiny.VAE.name}
    rest = {"text_encoders": [encoder.name], "clip_type": "stable_diffusion"}
    checkpoint = host.base / "models" / "checkpoints" / "without_the_rest.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    weights = load_file(tiny.DIFFUSION_MODEL)
    save_file({f"model.diffusion_model.{name}": value for name, value in weights.items()}, checkpoint)
    whole = {"checkpoint": checkpoint.name}
    try:
        with torch.inference_mode():
            for named in (files | rest, whole | rest | {"vae": tiny.VAE.name}):
                model, clip, vae = tool.loaded(named)
                theirs, ours = (each.model.diffusion_model.state_dict() for each in (stock.model, model))
                assert same(theirs, ours)
                latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
                assert torch.equal(vae.decode(latents), stock.vae.decode(latents))
                assert clip.tokenize("a cat").keys() == {"l"}
            with pytest.raises(tool.recipe.ConfigError, match=r"'without_the_rest.safetensors' has none: name vae"):
                tool.loaded(whole | rest)
    finally:
        encoder.unlink()
        checkpoint.unlink()


def test_another_base_model_is_refused(tool):
    recipe = tool.recipe.checked({**RECIPE, "model": "2-00"})
    policy = tool.make(recipe).policy
    with pytest.raises(tool.recipe.ConfigError, match=r"2-\w+ is loaded, and the recipe was made with 2-00: name"):
        tool.run._check_base(recipe, policy)
    with policy:
        base = policy.fingerprint()
    tool.run._check_base(tool.recipe.checked({**RECIPE, "model": base}), policy)


def test_sampling_settings_that_there_are_not_are_refused(tool):
    with pytest.raises(tool.recipe.ConfigError, match=r"sampling.wat: not a known setting"):
        tool.make(tool.recipe.checked(changed("sampling.wat", 1)))


@pytest.fixture
def makers(tool, root):
    """Makers on the CPU, without files of the user's."""
    from _cuda.host import pack_module

    compute = pack_module("pave_core.rewards.networks.compute")
    return tool.rewards.Makers(
        lambda precision, size: compute.Compute(compute.CPU, precision, size), lambda: [], lambda: None
    )


def described(root) -> dict[str, dict]:
    """Descriptions of rewards, as recipes have them, from the rewards themselves."""
    from pave_core.rewards.clip_contrast import CLIPContrast
    from pave_core.rewards.clip_score import CLIPScore
    from pave_core.rewards.colour import ColourReward
    from pave_core.rewards.http.apis import Chat, Scorer
    from pave_core.rewards.http.endpoint import Endpoint
    from pave_core.rewards.http.replies import ParseRule
    from pave_core.rewards.jpeg import JPEGSize
    from pave_core.rewards.judge import Judge
    from pave_core.rewards.preference import TinyPreference
    from pave_core.rewards.shapes import Adherence
    from pave_core.rewards.statistics import StatisticReward
    from pave_core.scoring.mix import RewardMix
    from pave_core.scoring.score import describe

    tiny = root / "assets" / "tiny"
    clip = (tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json")
    mix = RewardMix((ColourReward(1, 0, 0), CLIPScore(*clip)), (1.0, 0.5), "raw")
    made = {
        "colour": ColourReward(1.0, 0.5, 0.25, 0.3),
        "statistic": StatisticReward("sharpness", "near", 80.0),
        "another": StatisticReward("warmth", "less"),
        "jpeg": JPEGSize("large files"),
        "clip": CLIPScore(*clip),
        "contrast": CLIPContrast(*clip, against=["a", "b"], scale=50.0),
        "preference": TinyPreference(tiny / "preference.safetensors", *clip),
        "adherence": Adherence(tiny / "shape_classifier.safetensors"),
        "chat": Judge(Endpoint("http://127.0.0.1:9/v1"), Chat("m", "say {prompt}", ParseRule("json key", "a.b"), 64)),
        "scores": Judge(Endpoint("http://127.0.0.1:9"), Scorer()),
        "mix": mix,
    }
    found = {name: describe(reward) for name, reward in made.items()}
    return json.loads(json.dumps(found | {"whole mix": mix.describe()}))


def test_rewards_are_made_again_from_their_descriptions(makers, root):
    import torch

    for name, said in described(root).items():
        made = makers.reward(said)
        again = json.loads(json.dumps(made.describe() if hasattr(made, "describe") else {}))
        assert again.items() <= said.items(), name
    made = makers.reward(described(root)["colour"])
    assert made(torch.ones(1, 4, 4, 3), ["x"]).item() == pytest.approx(math.exp(-(0.25 + 0.5625) / (2 * 0.09)))


def test_a_taste_is_made_again_from_its_file(tool, makers, root, tmp_path):
    import torch

    from _person import click, shapes
    from pave_core.person.taste import ClipFeatures, TasteReward, learn_taste
    from pave_core.scoring.score import describe

    tiny = root / "assets" / "tiny"
    eyes = ClipFeatures(tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json")
    answers = [(eyes(shapes(number).images), click(number)) for number in range(6)]
    learn_taste(answers, eyes).save(tmp_path / "mine.safetensors")
    reward = TasteReward(tmp_path / "mine.safetensors", eyes)
    said = json.loads(json.dumps(describe(reward)))
    with pytest.raises(tool.recipe.ConfigError, match="there is no 'mine.safetensors'"):
        makers.reward(said)
    made = dataclasses.replace(makers, files=lambda: [tmp_path / "mine.safetensors"]).reward(said)
    images = shapes(9).images / 255
    assert torch.equal(made(images, ["a"] * 12), reward(images, ["a"] * 12))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"name": "wat"}, "reward: 'wat' is no reward that a program can make"),
        ("scored by nodes of the graph", "reward: it was scored by nodes of the graph, which are not in the recipe"),
        (None, "reward: None describes no reward"),
        ({"name": "colour", "red": 1.0}, "reward: {'name': 'colour', 'red': 1.0} lacks or misplaces 'green'"),
        (COLOUR | {"wat": 1}, "would become"),
        (COLOUR | {"red": 2}, "red: 2 is outside [0, 1]"),
        (
            {"name": "hps", "weights": {"file": "../../hps.pt", "bytes": 3}, "precision": "fp32"},
            "reward.weights: there is no '../../hps.pt' of 3 bytes among the reward models",
        ),
        (
            {"name": "judge", "base_url": "http://evil.example/v1", "api": "scores"},
            "base_url: 'http://evil.example/v1' is not on this machine",
        ),
        ({"rewards": [{"name": "wat"}], "weights": [1], "normalise": "raw"}, "reward.rewards[0]: 'wat' is no reward"),
    ],
)
def test_rewards_that_cannot_be_made_are_refused(makers, tool, said, why):
    with pytest.raises(tool.recipe.ConfigError) as refused:
        makers.reward(said)
    assert why in str(refused.value)


def test_a_process_without_a_device_is_told_so(tool):
    check = tool.world.check_device
    check(3, cpu=True, gpus=0, nccl=False)
    check(1, cpu=False, gpus=2, nccl=True)
    with pytest.raises(tool.recipe.ConfigError, match="process 2 of this machine has no GPU, it has 2: start at most"):
        check(2, cpu=False, gpus=2, nccl=True)
    with pytest.raises(tool.recipe.ConfigError, match="this PyTorch has no NCCL"):
        check(0, cpu=False, gpus=2, nccl=False)


def test_the_size_of_the_world_comes_from_whoever_started_it(tool):
    assert tool.world.world({}) == 1
    assert tool.world.world({"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "a"}) == 4
    assert tool.world.rank({"WORLD_SIZE": "4", "RANK": "3"}) == 3
    with pytest.raises(tool.recipe.ConfigError, match="add --processes N"):
        tool.world.world({"MASTER_ADDR": "127.0.0.1"})  # as accelerate launch --num_processes 2 --cpu leaves it
