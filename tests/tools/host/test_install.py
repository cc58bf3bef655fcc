"""Which ComfyUI is used, what its Python lacks, how the private one is unpacked, and how the pack is linked."""

import sys
import zipfile
from pathlib import Path

import pytest

from _host.install import find_comfyui, link_pack, missing_packages, own_python, requirement_name, unpack
from _host.setup import SetupError


@pytest.mark.parametrize(
    ("line", "name"),
    [("peft>=0.13", "peft"), ("open_clip_torch", "open_clip_torch"), ("# x", ""), ("-r other.txt", "")],
)
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
    assert sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.py")) == [
        "comfy/sd.py",
        "main.py",
    ]


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
