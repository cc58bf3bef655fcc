"""The command: what it prints, and its exit code."""

import json
from collections.abc import Callable

import pytest

import validate_workflow
from _small_workflow import node


@pytest.fixture
def command(server, monkeypatch) -> Callable[..., int]:
    """Call it with arguments; returns the exit code."""
    monkeypatch.setattr(validate_workflow, "end_on_sigterm", lambda: None)

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["validate_workflow.py", "--url", server.url, *map(str, arguments)])
        return validate_workflow.main()

    return run


def test_the_command_prints_a_line_per_finding_and_counts(command, tmp_path, capsys):
    good, bad, text = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "text.json"
    loader = node(
        1, "UNETLoader", "unet_name=COMBO weight_dtype=COMBO", "MODEL:MODEL", ["absent.safetensors", "default"]
    )
    good.write_text(json.dumps({"nodes": [loader], "links": []}), encoding="utf-8")
    bad.write_text(json.dumps({"nodes": [{**loader, "type": "NoSuchLoader"}], "links": []}), encoding="utf-8")
    text.write_text("{", encoding="utf-8")
    assert command(good) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok  {good} (1 nodes, 0 links)",
        f"{good}: note: node 1 needs the file absent.safetensors for UNETLoader.unet_name",
        "1 file, 0 problems, 1 note",
    ]
    assert command(good, bad, text, tmp_path / "none.json") == 1
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"{bad}: node 1 NoSuchLoader: the host has no such node",
        f"{text}: is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        f"{tmp_path / 'none.json'}: cannot be read: No such file or directory",
        "4 files, 3 problems, 1 note",
    ]


def test_the_command_without_files_is_wrong_usage(command):
    with pytest.raises(SystemExit, match="2"):
        command()


def test_the_command_says_when_no_host_answers(command, tmp_path, capsys):
    assert command("--url", "http://127.0.0.1:9", tmp_path / "any.json") == 1
    assert "no ComfyUI answers at http://127.0.0.1:9" in capsys.readouterr().err
