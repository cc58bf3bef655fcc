"""The result of a run: the table, and the files that must be there."""

import json
import os
from pathlib import Path

import pytest

from _host.training_run import Result, RunError, TrainingRun

PROMPT = {
    "1": {"class_type": "PaveTrain", "inputs": {}, "_meta": {"title": "Train it"}},
    "2": {"class_type": "PaveSaveLoRA", "inputs": {"name": "mine"}},
}
SUMMARY = {
    "reward_before": 0.25,
    "reward_after": 0.5,
    "reward_se": 0.01,
    "judge_before": 0.6,
    "judge_after": 0.58,
    "train_seconds": 61.0,
    "steps": 4,
}


def make_run(output: Path, lora: str = "mine.safetensors", left_out: str = "") -> TrainingRun:
    run = TrainingRun(None, PROMPT, output)  # type: ignore[arg-type]
    folder = output / "pave" / "mine_00001"
    files = {
        folder / "summary.json": json.dumps(SUMMARY),
        folder / "curve.png": "",
        folder / "grid.png": "",
        output / "loras" / lora: "",
    }
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.name != left_out:
            file.write_text(text)
    return run


def test_the_table_and_the_json_say_the_same(tmp_path):
    result = make_run(tmp_path).result("0.3.75")
    data = json.loads(result.as_json())
    assert list(data) == [
        *("reward_before", "reward_after", "reward_se", "adherence_before", "adherence_after", "train_seconds"),
        *("steps", "lora", "curve", "grid", "comfyui_version"),
    ]
    assert data["adherence_after"] == 0.58
    table = result.table()
    assert "+0.2500, standard error 0.0100" in table
    assert "58.0%" in table
    assert "-2.0 points" in table
    assert all(data[name] in table for name in ("lora", "curve", "grid", "comfyui_version"))


def test_without_a_judge_the_table_has_no_adherence(tmp_path):
    result = Result(0.1, 0.2, 0.01, None, None, 60, 4, "l", "c", "g", "0.3.75")
    assert "judge" not in result.table()


def test_the_lora_with_a_number_is_found_when_its_name_was_taken(tmp_path):
    old = tmp_path / "loras" / "mine.safetensors"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (1, 1))
    result = make_run(tmp_path, lora="mine_2.safetensors").result("0.3.75")
    assert Path(result.lora).name == "mine_2.safetensors"


@pytest.mark.parametrize("name", ["mine.safetensors", "curve.png", "grid.png", "summary.json"])
def test_a_run_is_not_finished_without_its_files(tmp_path, name):
    with pytest.raises(RunError, match=rf"{name} was not written"):
        make_run(tmp_path, left_out=name).result("0.3.75")


def test_files_of_an_older_run_do_not_count(tmp_path):
    run = make_run(tmp_path)
    os.utime(tmp_path / "loras" / "mine.safetensors", (1, 1))
    with pytest.raises(RunError, match=r"mine\.safetensors was not written"):
        run.result("0.3.75")
    with pytest.raises(RunError, match="left no folder"):
        TrainingRun(None, PROMPT, tmp_path).result("0.3.75")  # type: ignore[arg-type]


def test_what_is_left_behind_after_a_stop(tmp_path):
    run = make_run(tmp_path)
    assert run.left_behind().startswith("Stopped before the first step")
    checkpoint = tmp_path / "pave" / "mine_00001" / "checkpoint.safetensors"
    lora = tmp_path / "loras" / "pave" / "mine_00001.safetensors"
    lora.parent.mkdir()
    for file in (checkpoint, lora):
        file.touch()
    assert run.left_behind() == f"Checkpoint: {checkpoint}\nLoRA so far: {lora}"
