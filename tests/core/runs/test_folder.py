"""A run's folder."""

import json
import os

import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.evaluation.evaluate import Evaluation
from pave_core.evaluation.guard import Reading
from pave_core.runs.checkpoint import save_checkpoint
from pave_core.runs.folder import Places, RunFolder
from pave_core.training.state import Checkpoint


def checkpoint(step):
    return Checkpoint(step, {}, {"a": torch.ones(1)}, {}, {})


def test_folders_are_numbered_and_names_checked(tmp_path):
    assert [RunFolder.new(tmp_path, "run").name for _ in range(2)] == ["run_00001", "run_00002"]
    for bad in ("../x", "a/b", "", "..", "C:\\x", "x" * 101, "a\x00b"):
        with pytest.raises(ConfigError, match="run_name: "):
            RunFolder.new(tmp_path, bad)
        with pytest.raises(ConfigError, match="resume: "):
            RunFolder.existing(tmp_path, bad)
    with pytest.raises(ConfigError, match="resume: 'run_00001' has no checkpoint"):
        RunFolder.existing(tmp_path, "run_00001")


def test_runs_with_a_checkpoint_are_offered_newest_first(tmp_path):
    for age, name in enumerate(("a", "b", "c")):
        folder = RunFolder.new(tmp_path, name)
        if name != "b":
            save_checkpoint(folder.checkpoint, checkpoint(1))
            os.utime(folder.checkpoint, (1000 + age, 1000 + age))
    assert RunFolder.resumable(tmp_path) == ["c_00001", "a_00001"]
    assert RunFolder.existing(tmp_path, "a_00001").path == tmp_path / "a_00001"
    with pytest.raises(ConfigError, match="choose one of c_00001, a_00001"):
        RunFolder.existing(tmp_path, "b_00001")
    assert RunFolder.resumable(tmp_path / "absent") == []


def test_the_lora_of_a_run_has_its_name(tmp_path):
    assert Places(tmp_path / "runs", tmp_path / "loras").lora("a_00001") == tmp_path / "loras" / "a_00001.safetensors"


def test_readings_are_appended_and_rewound(tmp_path):
    folder = RunFolder.new(tmp_path, "run")
    readings = [
        Reading(step, 0.5, None, 0.1 * step, {"contrast": -0.2}, ("it fell",) if step == 4 else (), step == 2)
        for step in (2, 4, 6)
    ]
    for reading in readings:
        folder.append_reading(reading)
    with (folder.path / "guard.jsonl").open("a") as file:
        file.write('{"step": 8, "torn')
    assert folder.readings(4) == readings[:2]
    assert folder.readings(9) == readings[:2]
    assert RunFolder.new(tmp_path, "run").readings(4) == []


def test_the_best_state_counts_only_where_the_run_goes_on_behind_it(tmp_path):
    folder = RunFolder.new(tmp_path, "run")
    assert folder.load_best(9) is None
    save_checkpoint(folder.best, checkpoint(4))
    assert folder.load_best(4).step == 4
    assert folder.load_best(3) is None


def test_evaluations_join_those_of_an_earlier_session(tmp_path):
    def evaluation(reward):
        total = torch.tensor([reward])
        return Evaluation(("a",), (1,), torch.zeros(1, 2, 2, 3), {"a": total}, total, None)

    folder = RunFolder.new(tmp_path, "run")
    folder.save_evaluations({0: evaluation(0.0), 10: evaluation(1.0), 2: evaluation(float("nan"))})
    folder.save_evaluations({0: evaluation(0.0), 10: evaluation(3.0), 12: evaluation(4.0)})
    records = json.loads((folder.path / "evaluations.json").read_text())
    assert [(record["step"], record["reward"]) for record in records] == [(0, 0.0), (2, None), (10, 3.0), (12, 4.0)]
    assert records[0]["rewards"] == {"a": 0.0}
    assert records[0]["judge"] is None


def test_only_an_empty_folder_is_discarded(tmp_path):
    empty, used = RunFolder.new(tmp_path, "empty"), RunFolder.new(tmp_path, "used")
    used.save_summary({"steps": 3, "reward": float("nan")})
    for folder in (empty, used, empty):
        folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["used_00001"]
    assert json.loads((used.path / "summary.json").read_text()) == {"steps": 3, "reward": None}
