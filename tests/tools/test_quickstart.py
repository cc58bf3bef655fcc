"""The quickstart as a user runs it: a program of its own, with the real server and the bundled model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("comfyui")]

QUICKSTART = Path(__file__).resolve().parents[2] / "tools" / "quickstart.py"


def start(*args: str) -> subprocess.Popen[str]:
    """The quickstart, which heeds Ctrl-C also where the tests run in the background, whose programs ignore it."""
    env = {**os.environ, "BROWSER": "true", "PYTHONUNBUFFERED": "1"}
    heeds = None if sys.platform == "win32" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [sys.executable, str(QUICKSTART), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        preexec_fn=heeds,
    )


def read_until(process: subprocess.Popen[str], pattern: str, seconds: float) -> re.Match[str]:
    """The first line of output that matches. The process ends by itself or by the test's own time limit."""
    assert process.stdout is not None
    lines, deadline = [], time.monotonic() + seconds
    for line in process.stdout:
        lines.append(line)
        if found := re.search(pattern, line):
            return found
        assert time.monotonic() < deadline, "".join(lines)
    raise AssertionError("".join(lines))


def run(file: Path, *args: str) -> dict[str, Any]:
    """The figures of a quickstart, all of whose files are there and named."""
    process = start("--json", str(file), *args)
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, output
    result = json.loads(file.read_text())
    assert all(Path(result[name]).is_file() for name in ("lora", "curve", "grid"))
    assert all(result[name] in output for name in ("lora", "curve", "grid"))
    return result


def test_a_part_of_it_learns(tmp_path):
    result = run(tmp_path / "out.json", "--steps", "36")
    assert result["reward_after"] - result["reward_before"] >= 3 * result["reward_se"] > 0
    assert result["adherence_after"] >= result["adherence_before"] + 0.1


@pytest.mark.long
def test_wrong_colours_and_shapes_turn_right(tmp_path):
    """By the judge, a classifier that nothing is trained on."""
    result = run(tmp_path / "out.json")
    assert result["reward_after"] - result["reward_before"] >= 5 * result["reward_se"] > 0
    assert result["adherence_after"] >= result["adherence_before"] + 0.15


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_keeps_checkpoint_and_lora():
    process = start()
    read_until(process, r"\] \d+/\d+  reward", 300)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    kept = re.findall(r"^(?:Checkpoint|LoRA so far): (.+)$", output, re.MULTILINE)
    assert len(kept) == 2
    assert all(Path(path).is_file() for path in kept)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_serve_leaves_the_server_up_until_ctrl_c():
    process = start("--serve", "--steps", "1")
    url = read_until(process, r"ComfyUI is up: (\S+)", 600)[1]
    assert urllib.request.urlopen(url, timeout=30).status == 200
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_what_the_server_refuses_is_shown_with_node_and_field():
    process = start("--steps", "0")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "PaveTrain (node 6)" in output
    assert "iterations" in output


def test_a_wrong_comfyui_is_named(tmp_path):
    process = start("--comfyui", str(tmp_path))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"there is no ComfyUI in {tmp_path}" in output
