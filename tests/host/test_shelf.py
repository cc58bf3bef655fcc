"""The conditioning of more prompts than fit into memory: the same values, in files that nothing is left of."""

import errno
import os
import sys
from pathlib import Path

import pytest
import torch

PROMPTS = [f"a red circle, number {i}" for i in range(6)]
MB = 2**20


@pytest.fixture
def temp(host, tmp_path):
    """The host's folder for temporary files."""
    import folder_paths

    before = folder_paths.get_temp_directory()
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    yield tmp_path / "temp"
    folder_paths.set_temp_directory(before)


def files(temp):
    return [path for path in temp.rglob("*") if path.is_file()]


def own_memory():
    """Bytes of this process that are in no file."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def test_velocities_are_the_same_to_the_bit(make_policy, modules, temp, monkeypatch):
    def velocities(in_memory):
        monkeypatch.setattr(modules.native, "Shelf", lambda: modules.shelf.Shelf(in_memory))
        monkeypatch.setattr(modules.native, "PREPARED", 2)
        with make_policy(cfg=2.0) as policy, torch.no_grad():
            conds = [policy.encode(prompt) for prompt in PROMPTS]
            x = torch.randn(len(conds), *policy.latent_shape, generator=torch.Generator().manual_seed(0))
            sigma = torch.full((len(conds),), policy.sigmas(4)[1])
            return [policy.velocity(x, sigma, conds), policy.velocity(x[:1], sigma[:1], conds[:1])]

    whole = velocities(modules.shelf.IN_MEMORY)
    assert not temp.exists(), "few prompts need no file"
    for some in (0, 20_000):
        for one, other in zip(whole, velocities(some), strict=True):
            assert torch.equal(one, other)
    assert temp.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is mapped")
def test_files_are_gone_as_soon_as_they_are_mapped_and_the_folder_with_the_shelf(modules, temp):
    shelf = modules.shelf.Shelf(0)
    ((kept, extra),) = shelf.put([[torch.ones(2, 3), {"pooled_output": torch.arange(4.0), "guidance": 3.5}]])
    assert kept.tolist() == [[1.0] * 3] * 2
    assert extra["pooled_output"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert extra["guidance"] == 3.5
    assert [path.name.startswith("conditioning-") for path in temp.iterdir()] == [True]
    assert files(temp) == []
    kept.add_(1)  # whoever changes it changes no other's
    assert shelf.put([[torch.ones(2, 3), {}]])[0][0].tolist() == [[1.0] * 3] * 2
    del shelf
    assert list(temp.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_is_in_files_takes_no_memory(modules, temp):
    shelf = modules.shelf.Shelf(8 * MB)
    before = own_memory()
    kept = [shelf.put([[torch.full((2, MB), float(i)), {}]]) for i in range(32)]  # 8 MB each
    assert own_memory() - before < 64 * MB
    assert [int(cond[0][0].mean()) for cond in kept] == list(range(32))


def test_where_no_file_can_be_written_it_stays_in_memory(modules, temp, monkeypatch, caplog):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(modules.shelf, "save_file", full)
    shelf = modules.shelf.Shelf(0)
    with caplog.at_level("WARNING"):
        for i in range(3):
            assert shelf.put([[torch.full((2,), float(i)), {}]])[0][0].tolist() == [i, i]
    (said,) = caplog.messages
    assert "conditioning stays in memory, as no file for it can be written" in said
    assert "No space left" in said
