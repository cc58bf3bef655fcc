"""The private environment: what is made and installed, and when again."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from _host.environment import PrivateEnv, host_requirements
from _host.setup import Stamps


def test_the_environment_is_made_once_and_again_after_an_interruption(tmp_path, capsys):
    env = PrivateEnv(tmp_path / "env", tmp_path / "setup.log")
    env.create()
    marker = env.folder / "marker"
    marker.touch()
    env.create()
    assert marker.exists(), "an environment that works is kept"

    with pytest.raises(KeyboardInterrupt), Stamps(env.folder / "pave-stamps.json").running("PyTorch", "a"):
        raise KeyboardInterrupt
    env.create()
    assert not marker.exists()
    assert "interrupted (PyTorch)" in capsys.readouterr().out


def test_requirements_are_installed_once_for_a_text(tmp_path, monkeypatch):
    env = PrivateEnv(tmp_path, tmp_path / "setup.log")
    env.python = Path(sys.executable)
    calls: list[str] = []
    monkeypatch.setattr(env, "_pip", lambda title, *args: calls.append(title))
    env.install("the pack's requirements", "peft")
    env.install("the pack's requirements", "peft")
    env.install("the pack's requirements", "peft>=0.13")
    assert calls == ["The pack's requirements"] * 2


def test_torch_lines_are_left_out_and_torchsde_stays(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("torch\ntorchsde\ntorchvision>=0.20\ntorchaudio\n# comment\nnumpy>=1.25\n")
    assert host_requirements(file).splitlines() == ["torchsde", "# comment", "numpy>=1.25", "requests"]


def test_a_hosts_packages_lie_over_those_of_all_and_leave_them_there(tmp_path):
    below = PrivateEnv(tmp_path / "below", tmp_path / "setup.log")
    above = PrivateEnv(tmp_path / "above", tmp_path / "setup.log", over=below)
    for env in (below, above):
        env.create()
    (below._packages() / "ours.py").write_text("")
    for env in (below, above):
        (env._packages() / "theirs.py").write_text(f"name = {env.folder.name!r}")
    assert above._answer("import ours, theirs; print(theirs.name)") == "above"
    assert below._answer("import theirs; print(theirs.name)") == "below"


def test_the_torch_that_is_there_stays(tmp_path, monkeypatch):
    env = PrivateEnv(tmp_path, tmp_path / "setup.log")
    env.python = Path(sys.executable)
    said: list[str] = []
    monkeypatch.setattr(env, "_pip", lambda title, *args: said.append(Path(args[-1]).read_text("utf-8")))
    env.install("ComfyUI's requirements", "torchsde")
    assert f"torch=={version('torch')}\n" in said[0] + "\n"
