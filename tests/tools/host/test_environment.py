"""The private environment: what is made and installed, and when again."""

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
