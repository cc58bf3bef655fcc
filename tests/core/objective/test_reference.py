"""Transitions and loss against the authors' own numbers (tests/data/paved_reference.json)."""

import json
import subprocess
import sys


def check(root, reference):
    """The tool that compares with a file of the authors' numbers."""
    command = [sys.executable, root / "tools" / "check_reference.py", reference]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_authors_numbers(root):
    found = check(root, root / "tests" / "data" / "paved_reference.json")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("case ") == 5


def test_the_check_can_fail(root, tmp_path):
    reference = json.loads((root / "tests" / "data" / "paved_reference.json").read_text())
    reference["cases"][1]["grad_W"][0][0] *= 1.01
    (tmp_path / "wrong.json").write_text(json.dumps(reference))
    found = check(root, tmp_path / "wrong.json")
    assert found.returncode == 1
    assert "ABOVE" in found.stdout
