"""Checkpoints: whole or absent, and refused where they are damaged."""

import json
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save

from _toy import ToyTraining, same, toy_config
from pave_core.errors import ConfigError
from pave_core.rollout.curriculum import RunningStats
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.training.state import Checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    run = ToyTraining(toy_config(iterations=2))
    list(run.stream())
    saved = run.state.capture({"config": {"eta": 0.8}, "prompts": ["a cat"]})
    save_checkpoint(tmp_path / "checkpoint.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert (loaded.step, loaded.recipe, loaded.counters) == (2, saved.recipe, saved.counters)
    assert same(loaded.adapter, saved.adapter)
    assert same(loaded.optimizer, saved.optimizer)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^resume: .*checkpoint.safetensors"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "pave-checkpoint-1"}])
def test_another_safetensors_file_is_refused(tmp_path, metadata):
    (tmp_path / "other.safetensors").write_bytes(save({"a": torch.ones(1)}, metadata=metadata))
    with pytest.raises(ConfigError, match=r"^resume: .*other.safetensors (is not|cannot be read as) a checkpoint"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^resume: checkpoint.safetensors does not exist, or is no plain file"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit to set here")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, root):
    """A real failure of the system's write: the process may not write files above 4 KiB."""
    path = tmp_path / "checkpoint.safetensors"
    run = ToyTraining(toy_config(iterations=1))
    list(run.stream())
    save_checkpoint(path, run.state.capture({"n": 1}))
    old = path.read_bytes()
    assert len(old) > 4096
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(root / "tools")!r})
from _host.package import load_core
load_core()
from pathlib import Path
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.errors import TrainingError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoint = load_checkpoint(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(Path({str(path)!r}), checkpoint)
except TrainingError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "could not write" in said
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def saved():
    return Checkpoint(
        3,
        {"config": {"optim": {"optimizer": "AdamW"}}},
        {"a": torch.ones(2, 2)},
        {"a|exp_avg": torch.zeros(2, 2), "a|step": torch.tensor(3.0)},
        {"updates": 3, "skipped": 0},
        {"a": torch.ones(2, 2)},
        RunningStats(0.5, 1.0),
    )


def written(path, header=(), format="pave-checkpoint-1", **tensors):
    """A file of the format without a digest, with parts of its header and tensors replaced; None leaves one out."""
    whole = saved()
    content = {"adapter.a": whole.adapter["a"], "average.a": whole.average["a"]}
    content |= {f"optimizer.{key}": value for key, value in whole.optimizer.items()}
    content = {key: value for key, value in (content | tensors).items() if value is not None}
    head = {"step": 3, "recipe": whole.recipe, "counters": whole.counters, "running": {"mean": 0.5, "var": 1.0}}
    text = header if isinstance(header, str) else json.dumps(head | dict(header))
    path.write_bytes(save(content, metadata={"format": format, "pave": text}))
    return path


def test_the_format_of_0_3_0_is_read(tmp_path):
    assert load_checkpoint(written(tmp_path / "c.safetensors")).step == 3


@pytest.mark.parametrize(
    "header",
    [
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        *({"step": value} for value in ("3", 2.5, None, -5, True, [3], 10**18)),
        *({"counters": {name: 10**18}} for name in ("halvings", "scale_halvings", "updates")),
        *({"counters": value} for value in (None, [], {"updates": "3"}, {"updates": -1}, {"skipped": 0.5}, "x")),
        *({"recipe": value} for value in (None, [], "x", 7)),
        *({"running": value} for value in ([], "x", {"mean": "x", "var": 1}, {"mean": 0.5}, {"other": 1})),
    ],
)
def test_a_header_of_another_kind_is_refused(tmp_path, header):
    with pytest.raises(ConfigError, match=r"^resume: .*c.safetensors cannot be read as a checkpoint \(.+\): ") as said:
        load_checkpoint(written(tmp_path / "c.safetensors", header))
    assert len(str(said.value)) <= 500


@pytest.mark.parametrize(
    "tensors",
    [
        {"adapter.a": torch.full((2, 2), math.nan)},
        {"adapter.a": torch.full((2, 2), math.inf)},
        {"adapter.a": torch.ones(2, 2, dtype=torch.int32)},
        {"adapter.a": None},
        {"average.a": torch.ones(3)},
        {"average.b": torch.ones(2, 2)},
        {"optimizer.a|exp_avg": torch.full((2, 2), math.nan)},
        {"optimizer.a|exp_avg": torch.ones(3)},
        {"optimizer.b|exp_avg": torch.ones(2, 2)},
        {"optimizer.a": torch.ones(2, 2)},
        {"optimizer.a|": torch.ones(2, 2)},
        {"other": torch.ones(1)},
    ],
)
def test_tensors_that_fit_no_run_are_refused(tmp_path, tensors):
    with pytest.raises(ConfigError, match=r"^resume: .*c.safetensors cannot be read as a checkpoint"):
        load_checkpoint(written(tmp_path / "c.safetensors", **tensors))


def test_every_bit_is_watched(tmp_path):
    """A flip anywhere in header or tensors is refused: never other weights without a word."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, saved())
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        with pytest.raises(ConfigError, match="^resume: "):
            load_checkpoint(path)


def test_the_digest_of_the_newer_format_cannot_be_left_out(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        load_checkpoint(written(tmp_path / "c.safetensors", format="pave-checkpoint-2"))
