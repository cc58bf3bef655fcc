"""Set-up steps: what is stamped, what is redone, and what a log line tells the user."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from _host.environment import PrivateEnv, host_requirements
from _host.install import find_comfyui, link_pack, missing_packages, own_python, requirement_name, unpack
from _host.setup import SetupError, Stamps, run_step, summarise


def test_a_step_is_done_until_its_inputs_change(tmp_path):
    file = tmp_path / "stamps.json"
    with Stamps(file).running("PyTorch", "a"):
        pass
    assert Stamps(file).done("PyTorch", "a")
    assert not Stamps(file).done("PyTorch", "b")
    assert Stamps(file).interrupted is None


def test_a_killed_step_is_seen_at_the_next_start(tmp_path):
    file = tmp_path / "stamps.json"
    stamps = Stamps(file)
    with pytest.raises(KeyboardInterrupt), stamps.running("PyTorch", "a"):
        raise KeyboardInterrupt
    assert Stamps(file).interrupted == "PyTorch"
    assert not Stamps(file).done("PyTorch", "a")


def test_a_step_that_failed_in_good_order_is_not_an_interruption(tmp_path):
    file = tmp_path / "stamps.json"
    with pytest.raises(SetupError), Stamps(file).running("PyTorch", "a"):
        raise SetupError("no network")
    assert Stamps(file).interrupted is None
    assert not Stamps(file).done("PyTorch", "a")


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


def test_a_failing_command_is_quoted(tmp_path):
    with pytest.raises(SetupError, match=r"exit code 3[\s\S]*no such package[\s\S]*setup\.log"):
        run_step("PyTorch", [sys.executable, "-c", "print('no such package'); raise SystemExit(3)"], tmp_path / "setup.log")


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("Downloading torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl (899.8 MB)\n", "downloading torch (899.8 MB)"),
        ("  Downloading https://host/packages/numpy-2.0.0-cp311-win_amd64.whl (15 MB)\n", "downloading numpy (15 MB)"),
        ("Using cached filelock-3.20.0-py3-none-any.whl (16 kB)\n", "using cached filelock (16 kB)"),
        ("Installing collected packages: a, b, c\n", "installing 3 packages"),
        ("Requirement already satisfied: numpy in /x\n", ""),
    ],
)
def test_what_pip_says_in_a_few_words(line, meaning):
    assert summarise(line) == meaning


def test_torch_lines_are_left_out_and_torchsde_stays(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("torch\ntorchsde\ntorchvision>=0.20\ntorchaudio\n# comment\nnumpy>=1.25\n")
    assert host_requirements(file).splitlines() == ["torchsde", "# comment", "numpy>=1.25", "requests"]


@pytest.mark.parametrize(("line", "name"), [("peft>=0.13", "peft"), ("open_clip_torch", "open_clip_torch"), ("# x", ""), ("-r other.txt", "")])
def test_the_name_in_a_requirement(line, name):
    assert requirement_name(line) == name


def test_packages_that_another_python_lacks(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("pip\nno-such-package-at-all>=1\n")
    assert missing_packages(Path(sys.executable), file) == ["no-such-package-at-all"]


def _archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def test_unpack_takes_what_is_below_the_prefix(tmp_path):
    archive = _archive(tmp_path / "a.whl", "lib/host/main.py", "lib/host/comfy/sd.py", "lib/other.py")
    unpack(archive, "lib/host/", tmp_path / "out")
    assert sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.py")) == ["comfy/sd.py", "main.py"]


@pytest.mark.parametrize("name", ["../evil.py", "a/../../evil.py", "/evil.py", "C:/evil.py", "..\\evil.py"])
def test_unpack_refuses_names_that_leave_the_folder(tmp_path, name):
    archive = _archive(tmp_path / "a.whl", "lib/host/main.py", f"lib/host/{name}")
    with pytest.raises(SetupError, match="unsafe member name"):
        unpack(archive, "lib/host/", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_unpack_refuses_an_archive_without_the_prefix(tmp_path):
    with pytest.raises(SetupError, match="nothing below"):
        unpack(_archive(tmp_path / "a.whl", "other.py"), "lib/host/", tmp_path / "out")


def _fake_comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "custom_nodes").mkdir()
    (folder / "main.py").touch()
    return folder


def test_where_comfyui_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    given, named, around = (_fake_comfyui(tmp_path / name) for name in ("given", "named", "around"))
    pack = around / "custom_nodes" / "pack"
    assert find_comfyui(None, tmp_path / "pack") is None
    assert find_comfyui(None, pack) == around
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert find_comfyui(None, pack) == named
    assert find_comfyui(given, pack) == given


def test_the_portable_build_is_found_one_level_down(tmp_path):
    comfyui = _fake_comfyui(tmp_path / "portable" / "ComfyUI")
    python = tmp_path / "portable" / "python_embeded" / "python.exe"
    python.parent.mkdir()
    python.touch()
    assert find_comfyui(tmp_path / "portable", tmp_path) == comfyui
    assert own_python(comfyui) == python


def test_a_comfyui_that_is_too_old_is_refused(tmp_path):
    comfyui = _fake_comfyui(tmp_path / "ComfyUI")
    version = comfyui / "comfyui_version.py"
    version.write_text('__version__ = "0.3.74"\n')
    with pytest.raises(SetupError, match=r"is 0\.3\.74: the pack needs 0\.3\.75 or newer"):
        find_comfyui(comfyui, tmp_path)
    version.write_text('__version__ = "0.33.0"\n')
    assert find_comfyui(comfyui, tmp_path) == comfyui


def test_a_wrong_path_is_named(tmp_path):
    with pytest.raises(SetupError, match="--comfyui: there is no ComfyUI in"):
        find_comfyui(tmp_path, tmp_path)


def test_the_pack_is_linked_once_under_any_name(tmp_path):
    pack, custom_nodes = tmp_path / "pack", tmp_path / "custom_nodes"
    pack.mkdir()
    assert link_pack(custom_nodes, pack) == "comfyui-pave-grpo"
    assert (custom_nodes / "comfyui-pave-grpo").samefile(pack)
    (custom_nodes / "comfyui-pave-grpo").rename(custom_nodes / "my-pave")
    assert link_pack(custom_nodes, pack) == "my-pave"


def test_a_dangling_link_is_replaced_and_another_copy_is_not(tmp_path):
    old, new, custom_nodes = tmp_path / "old", tmp_path / "new", tmp_path / "custom_nodes"
    old.mkdir()
    new.mkdir()
    link_pack(custom_nodes, old)
    with pytest.raises(SetupError, match="another copy"):
        link_pack(custom_nodes, new)
    old.rmdir()
    link_pack(custom_nodes, new)
    assert (custom_nodes / "comfyui-pave-grpo").samefile(new)


@pytest.mark.parametrize("tool", ["quickstart.py", "test.py"])
def test_an_old_python_is_told_so(root, tool):
    code = (
        "import runpy, sys\n"
        "sys.version_info = (3, 9, 0, 'final', 0)\n"
        f"sys.path.insert(0, {str(root / 'tools')!r})\n"
        f"runpy.run_path({str(root / 'tools' / tool)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Python 3.10 or newer" in done.stderr
