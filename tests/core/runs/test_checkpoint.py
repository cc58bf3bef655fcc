"""Checkpoints: whole or absent, and refused where they are damaged."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save

from _toy import ToyTraining, same, toy_config
from pave_core.errors import ConfigError
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint


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
    with pytest.raises(ConfigError, match=r"^resume: .* cannot be read as a checkpoint"):
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
    assert "what was there before is intact" in said
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
