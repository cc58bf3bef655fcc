"""The environment of the quickstart and of the tests: a ComfyUI, a Python that runs it, and the pack linked into it.

If the user has no ComfyUI, everything is installed under `.pave`, in this order:
    .pave/env       venv, PyTorch, the host's requirements, the pack's, for tests also requirements-dev.txt
    .pave/comfyui   the private ComfyUI
For a ComfyUI without a Python of its own, and for tests against any ComfyUI of the user's:
    .pave/env       venv, PyTorch
    .pave/envs/...  a venv over it, with what that ComfyUI requires, the pack and tests beside it: hosts pin versions of
                    their own, and must not take each other's away
Each step is stamped with a hash of its inputs: it is done once, and again when the inputs change. An environment whose
set-up was killed halfway is made again, because a half-installed package looks installed to pip. PyTorch is never
replaced by what others require, and nothing is ever installed into a user's own Python.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .install import fetch_private, find_comfyui, link_pack, missing_packages, own_python, requirement_name
from .package import ROOT
from .setup import SetupError, Stamps, digest, run_step

TORCH_PACKAGES = ("torch", "torchvision", "torchaudio")


@dataclass(frozen=True)
class Environment:
    """A ComfyUI folder, the Python that runs it, and the name of the pack's folder in its custom_nodes.

    Tests do not link the pack into a user's ComfyUI: pack is "" then.
    """

    python: Path
    comfyui: Path
    pack: str


def prepare(comfyui: Path | None = None, tests: bool = False, root: Path = ROOT) -> Environment:
    """Find or make everything. Raises SetupError with a remedy.

    Args:
        comfyui: the user's ComfyUI; None looks at COMFYUI_PATH, then at where the pack lies, then makes a private one.
        tests: install the test tools too, and never use the Python of the user's ComfyUI.
    """
    home = root / ".pave"
    home.mkdir(exist_ok=True)
    private = home / "comfyui"
    host = find_comfyui(comfyui, root) or private
    python = None if host == private or tests else own_python(host)
    if python is not None:
        _check_own(python, root / "requirements.txt")
    else:
        log = home / "setup.log"
        env = PrivateEnv(home / "env", log)
        env.create()
        env.install_torch()
        if host == private:
            fetch_private(env.python, host, log)
        else:
            env = PrivateEnv(home / "envs" / f"{host.name}-{digest(str(host))}", log, over=env)
            env.create()
        requirements = host / "requirements.txt"
        env.install("ComfyUI's requirements", host_requirements(requirements))
        if needs_torchaudio(host):
            env.install_torchaudio()
        env.install("the pack's requirements", (root / "requirements.txt").read_text(encoding="utf-8"))
        if tests:
            env.install("test tools", (root / "requirements-dev.txt").read_text(encoding="utf-8"))
        python = env.python
    pack = "" if tests and host != private else link_pack(host / "custom_nodes", root)
    return Environment(python, host, pack)


def rerun(python: Path) -> int:
    """Run this script once more, with its arguments, under `python`; its exit code."""
    return subprocess.run([str(python), *sys.argv]).returncode


def _check_own(python: Path, requirements: Path) -> None:
    if missing := missing_packages(python, requirements):
        raise SetupError(
            f"this ComfyUI has its own Python, and the pack needs packages that are not there: {', '.join(missing)}\n"
            f'Install them with:\n    "{python}" -m pip install -r "{requirements}"'
        )


def host_requirements(requirements: Path) -> str:
    """The host's requirements without PyTorch, which has steps of its own.

    ComfyUI 0.3.75 imports requests without naming it: older releases of transformers brought it along.
    """
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return "\n".join([*(line for line in lines if requirement_name(line) not in TORCH_PACKAGES), "requests"])


def needs_torchaudio(host: Path) -> bool:
    """Whether the host does not start without torchaudio. ComfyUI 0.3.75 only loses its audio nodes."""
    return (host / "comfy" / "text_encoders" / "gemma4.py").is_file()


class PrivateEnv:
    """The venv `folder`, with its stamps inside it. over: the venv whose packages it sees too, below its own."""

    def __init__(self, folder: Path, log: Path, over: PrivateEnv | None = None):
        self.folder = folder
        self.log = log
        self.over = over
        self.python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def create(self) -> None:
        interrupted = self._stamps().interrupted
        if interrupted:
            print(f"The last set-up was interrupted ({interrupted}); starting it again.")
        if not interrupted and self._works():
            return
        if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
            remedy = "on Debian and Ubuntu: apt install python3-venv"
            raise SetupError(f"{sys.executable} has no venv or ensurepip; {remedy}")
        shutil.rmtree(self.folder, ignore_errors=True)
        print(f"First use: setting up in {self.folder.parent}.")
        if self.over is None:
            print("This downloads about 3 GB, takes 6 GB on disk, and happens once.")
        creator = sys.executable if self.over is None else str(self.over.python)
        run_step("Python environment", [creator, "-m", "venv", str(self.folder)], self.log)
        if self.over is not None:
            (self._packages() / "below.pth").write_text(f"{self.over._packages()}\n", encoding="utf-8")

    def install_torch(self) -> None:
        stamps, key = self._stamps(), digest("torch", "torchvision")
        if stamps.done("PyTorch", key):
            return
        with stamps.running("PyTorch", key):
            if self._runs("import torch, torchvision"):
                return
            if sys.platform == "win32" and shutil.which("nvidia-smi"):
                print("PyPI's PyTorch for Windows has no CUDA.")
                print("To use your GPU, give your own ComfyUI with --comfyui PATH.")
            self._pip("PyTorch", "torch", "torchvision")

    def install_torchaudio(self) -> None:
        """The newest torchaudio that is no newer than the torch that is there; releases do not go together any more."""
        stamps, key = self._stamps(), digest("torchaudio")
        if stamps.done("torchaudio", key):
            return
        with stamps.running("torchaudio", key):
            if self._runs("import torchaudio"):
                return
            torch = self._answer("import importlib.metadata as m; print(m.version('torch'))")
            major, minor = torch.split(".")[:2]
            self._pip("torchaudio", "--no-deps", f"torchaudio<={major}.{minor}.99")

    def install(self, step: str, requirements: str) -> None:
        """Install a requirements text, unless that same text has been installed. The torch that is there stays."""
        stamps, key = self._stamps(), digest(requirements)
        if stamps.done(step, key):
            return
        with stamps.running(step, key):
            file, pins = self.folder / "requirements.txt", self.folder / "constraints.txt"
            file.write_text(requirements, encoding="utf-8")
            pins.write_text(self._answer(_PINS), encoding="utf-8")
            self._pip(step[0].upper() + step[1:], "-r", str(file), "-c", str(pins))

    def _packages(self) -> Path:
        """Where its packages are."""
        return Path(self._answer("import sysconfig; print(sysconfig.get_path('purelib'))"))

    def _stamps(self) -> Stamps:
        return Stamps(self.folder / "pave-stamps.json")

    def _works(self) -> bool:
        return self.python.is_file() and self._runs("import pip")

    def _runs(self, code: str) -> bool:
        return subprocess.run([str(self.python), "-c", code], capture_output=True).returncode == 0

    def _answer(self, code: str) -> str:
        """What `code` prints."""
        done = subprocess.run([str(self.python), "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise SetupError(f"{self.python} does not run: {done.stderr.strip()}")
        return done.stdout.strip()

    def _pip(self, title: str, *args: str) -> None:
        quiet = ("--progress-bar", "off", "--disable-pip-version-check")
        run_step(title, [str(self.python), "-m", "pip", "install", *quiet, *args], self.log)


_PINS = f"""
import importlib.metadata as m
for name in {TORCH_PACKAGES}:
    try: print(f"{{name}}=={{m.version(name)}}")
    except m.PackageNotFoundError: pass
"""
"""Prints the PyTorch packages that are installed, as constraints for pip."""
