"""Other packages in the environment are old, broken or not there: what does not need them works."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from _host.client import PromptError
from _host.install import requirement_name
from _own_server import own_server
from _training_graphs import looped, node, with_settings
from pave_core.errors import ConfigError
from pave_core.packages import needed

BROKEN = {
    "peft": "raise ImportError(\"cannot import name 'HybridCache' from 'transformers'\", name=\"transformers\")",
    "open_clip": 'raise AttributeError("module torchvision has no attribute transforms")',
    "timm": 'raise RuntimeError("operator torchvision::nms does not exist")',
    "accelerate": 'raise RuntimeError("NumPy 1.x cannot be run in NumPy 2")',
    "bitsandbytes": 'raise RuntimeError("CUDA Setup failed despite CUDA being available")',
    "rapidocr": 'raise OSError("libGL.so.1: cannot open shared object file")',
    "matplotlib": 'raise AttributeError("np.Inf was removed in the NumPy 2.0 release")',
    "tensorboard": 'raise TypeError("Descriptors cannot be created directly")',
}
"""{package: what its import does}, as people met them."""


def stubs(folder: Path, packages: dict[str, str]) -> Path:
    """A folder of packages that do nothing but what is given, for PYTHONPATH."""
    for name, code in packages.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(code, "utf-8")
    return folder


@pytest.fixture(scope="module")
def server(comfyui, root, tmp_path_factory):
    """A server in whose environment all of BROKEN raise."""
    base = tmp_path_factory.mktemp("broken")
    path = [str(stubs(base / "stubs", BROKEN)), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        with own_server(comfyui, base) as server:
            yield server


@pytest.mark.server
def test_every_node_loads(client, server, root):
    names = json.loads((root / "locales" / "en" / "nodeDefs.json").read_text("utf-8")).keys()
    assert len(names) > 30
    assert names <= client.object_info().keys(), server.log.read_text("utf-8")[-3000:]


@pytest.mark.server
def test_a_training_with_a_reward_that_needs_none_of_them_ends_well(client, server):
    graph = with_settings(looped("broken"), score={"reward": ["colour", 0]})
    for each in ("clip", "reward"):
        del graph[each]
    client.run(graph)
    assert (server.output / "loras" / "pave" / "broken_00001.safetensors").is_file()
    assert (server.output / "pave" / "broken_00001" / "summary.json").is_file()


@pytest.mark.server
@pytest.mark.parametrize(
    ("reward", "line"),
    [
        (
            node("PaveCLIPScore", checkpoint="bundled tiny CLIP", architecture="auto", precision="fp32", batch_size=1),
            r'architecture: open_clip_torch cannot be imported \(AttributeError: module torchvision has .*\): run ".*" '
            r'-m pip install --force-reinstall --no-deps "open_clip_torch>=2.32" "timm>=1.0.17" and restart',
        ),
        (
            node("PaveOCR"),
            r"ocr: rapidocr cannot be imported \(OSError: libGL.so.1: .*\): run \".*\" -m pip install "
            r'--force-reinstall --no-deps "rapidocr>=3.10" and restart',
        ),
    ],
    ids=lambda value: value["class_type"] if isinstance(value, dict) else "",
)
def test_a_node_that_needs_one_says_which_pip_line_mends_it(client, reward, line):
    with pytest.raises(PromptError) as error:
        client.run({"reward": reward, "show": node("PreviewAny", source=["reward", 0])})
    assert re.search(line, str(error.value)), error.value


@pytest.mark.parametrize("error", [ImportError, RuntimeError, AttributeError, OSError, TypeError, SyntaxError])
def test_whatever_an_import_raises_becomes_the_line_that_mends_it(error, tmp_path, monkeypatch):
    name = f"broken_{error.__name__.lower()}"
    monkeypatch.syspath_prepend(stubs(tmp_path, {name: f"raise {error.__name__}('no ' * 500)"}))
    line = r'^x: torch cannot be .*: run ".*" -m pip install .*"torch>=2"'
    with pytest.raises(ConfigError, match=line) as caught, needed("x", "torch>=2"):
        __import__(name)
    assert len(str(caught.value)) < 500
    assert "--force-reinstall --no-deps" in str(caught.value)  # torch is new enough: only its files are broken


@pytest.mark.parametrize("requirement", ["torch>=999", "no_such_package_of_ours>=1"])
def test_a_package_that_is_old_or_not_there_is_installed_with_what_it_needs(requirement):
    with pytest.raises(ConfigError, match=rf'-m pip install "{requirement}" and restart'), needed("x", requirement):
        import no_such_package_of_ours  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_an_adapter_needs_no_package_but_torch(root, tmp_path):
    """peft imports bitsandbytes and others where they are installed, and each of them may be broken."""
    code = f"""
import sys
sys.path[:0] = [{str(root / "tools")!r}, {str(root / "tests" / "support")!r}]
from _host.package import load_core
load_core()
import torch
from _toy import ToyPolicy
from pave_core.config.adapter import LoraConfig
policy = ToyPolicy(LoraConfig(rank=2))
policy.model(torch.ones(2, 3, 4, 4), torch.tensor([0.5, 0.9]), torch.ones(2, 8)).sum().backward()
assert any(p.grad is not None for p in policy.parameters().values())
"""
    env = {**os.environ, "PYTHONPATH": str(stubs(tmp_path, BROKEN))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_pip_installs_for_ocr_leaves_an_onnxruntime_and_an_opencv_alone(root):
    """pip takes onnxruntime-gpu for another package than onnxruntime, and installs the one over the other."""
    text = (root / "requirements-ocr.txt").read_text("utf-8")
    names = {requirement_name(line) for line in text.splitlines()} - {""}
    assert "rapidocr" in names
    assert not [name for name in names if "onnxruntime" in name or "opencv" in name]
    assert "--no-deps -r requirements-ocr.txt" in text
