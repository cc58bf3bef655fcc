"""The commands under a Python that has nothing installed, or is too old."""

import subprocess
import sys

import pytest


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


def test_every_command_starts_without_any_package(root):
    """What it needs beyond the standard library it imports later, under the environment's Python."""
    commands = sorted(file.stem for file in (root / "tools").glob("*.py"))
    assert "quickstart" in commands
    code = "import sys\nsys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)"
    bare = [sys.executable, "-S", "-c"]
    assert subprocess.run([*bare, "import torch"], capture_output=True).returncode
    done = subprocess.run([*bare, code, root / "tools", *commands], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
