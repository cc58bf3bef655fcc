"""Transitions, loss and AdaGRPO against numbers of public code (tests/data/*_reference.json)."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest

FILES = ("paved_reference.json", "algorithm_reference.json")


@pytest.fixture
def check(root, tmp_path):
    """check(contents): the tool that compares with a file of public code's numbers."""

    def run(contents):
        file = tmp_path / "reference.json"
        file.write_text(json.dumps(contents))
        command = [sys.executable, root / "tools" / "check_reference.py", file]
        return subprocess.run(command, capture_output=True, text=True)

    return run


@pytest.fixture
def numbers(root):
    """The contents of both files, in one."""
    texts = [(root / "tests" / "data" / name).read_text() for name in FILES]
    return {key: value for text in texts for key, value in json.loads(text).items()}


def test_the_authors_numbers(check, numbers):
    found = check(numbers)
    assert found.returncode == 0, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    assert [sum(line.startswith(kind) for line in lines) for kind in ("case ", "kernel ", "ada ")] == [5, 12, 12]
    assert "ABOVE" not in found.stdout


@pytest.mark.parametrize(
    "place",
    [
        ("cases", 1, "grad_W", 0, 0),
        ("cases", 2, "rewards", 3),
        *(("kernels", i, quantity) for i in (3, 4, 5) for quantity in ("eta", "std_dev_t")),
        *(("kernels", i, quantity, 1) for i in (6, 7, 8) for quantity in ("mean", "log_prob")),
        ("kernels", 9, "x", 0),
        ("ada", 0, "alpha"),
        ("ada", 2, "steps", 1, "anchor_scores", 2),
        *(("ada", 1, "steps", 2, quantity) for quantity in ("ema_mean", "ema_var")),
        *(("ada", 1, "steps", 3, quantity, 0) for quantity in ("rewards", "local", "global_", "advantages")),
    ],
    ids=lambda place: ".".join(map(str, place)),
)
def test_one_number_that_is_off_is_found(comparison, numbers, place):
    key, i, *path = place
    case = deepcopy(numbers[key][i])
    assert comparison(key, [case])
    inside = case
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] *= 1.01
    assert not comparison(key, [case])


@pytest.fixture
def comparison(monkeypatch, root):
    """The tool's comparison of one list, in this process."""
    monkeypatch.syspath_prepend(root / "tools")
    import check_reference

    return check_reference.compare_all


def test_another_choice_is_found(comparison, numbers):
    case = numbers["ada"][0]
    case["steps"][0]["selected"] += 1
    assert not comparison("ada", [case])


@pytest.mark.parametrize("values", [[], [0.1], float("nan")], ids=["none", "too few", "not a number"])
def test_numbers_that_are_missing_are_not_passed_over(comparison, numbers, values):
    case = numbers["kernels"][0]
    case["log_prob"] = values if isinstance(values, list) else [values] * 3
    assert not comparison("kernels", [case])


@pytest.mark.parametrize("contents", [{}, {"cases": []}, {"kernels": []}, {"ada": [{"steps": []}]}], ids=str)
def test_a_file_without_cases_fails(check, contents):
    """And not by an error of the tool's own."""
    found = check(contents)
    assert found.returncode == 1
    assert not found.stderr


def test_a_file_that_is_off_fails(check, numbers):
    numbers["kernels"][5]["std_dev_t"] *= 1.0001
    found = check(numbers)
    assert found.returncode == 1
    assert "ABOVE 1e-05" in found.stdout


def test_sigmas_of_another_schedule_are_refused(check, numbers):
    numbers["kernels"][0]["shift"] = 2.0
    found = check(numbers)
    assert found.returncode == 1
    assert "is not the schedule's" in found.stderr
