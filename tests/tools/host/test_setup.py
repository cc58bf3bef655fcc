"""Set-up steps: what is stamped, and what a log line tells the user."""

import sys

import pytest

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


def test_a_failing_command_is_quoted(tmp_path):
    with pytest.raises(SetupError, match=r"exit code 3[\s\S]*no such package[\s\S]*setup\.log"):
        run_step(
            "PyTorch", [sys.executable, "-c", "print('no such package'); raise SystemExit(3)"], tmp_path / "setup.log"
        )


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
