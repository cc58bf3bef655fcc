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


@pytest.fixture
def said():
    """What folders warned of."""
    return []


@pytest.fixture
def new(tmp_path, said):
    """new(name) -> a new folder."""
    return lambda name="run": RunFolder.new(tmp_path, name, said.append)


@pytest.fixture
def existing(tmp_path, said):
    """existing(name) -> the folder of a run."""
    return lambda name: RunFolder.existing(tmp_path, name, said.append)


def test_folders_are_numbered_and_names_checked(new, existing):
    assert [new().name for _ in range(2)] == ["run_00001", "run_00002"]
    for bad in ("../x", "a/b", "", "..", "C:\\x", "x" * 101, "a\x00b"):
        with pytest.raises(ConfigError, match="run_name: "):
            new(bad)
        with pytest.raises(ConfigError, match="resume: "):
            existing(bad)
    with pytest.raises(ConfigError, match="resume: 'run_00001' has no checkpoint"):
        existing("run_00001")


def test_runs_with_a_checkpoint_are_offered_newest_first(tmp_path, new, existing):
    for age, name in enumerate(("a", "b", "c")):
        folder = new(name)
        if name != "b":
            save_checkpoint(folder.checkpoint, checkpoint(1))
            os.utime(folder.checkpoint, (1000 + age, 1000 + age))
    assert RunFolder.resumable(tmp_path) == ["c_00001", "a_00001"]
    assert existing("a_00001").path == tmp_path / "a_00001"
    with pytest.raises(ConfigError, match="choose one of c_00001, a_00001"):
        existing("b_00001")
    assert RunFolder.resumable(tmp_path / "absent") == []


def test_the_lora_of_a_run_has_its_name(tmp_path):
    places = Places(tmp_path / "runs", tmp_path / "loras", tmp_path / "spare")
    assert places.lora("a_00001") == tmp_path / "loras" / "a_00001.safetensors"


def test_readings_are_kept_and_rewound(new):
    folder = new()
    readings = [
        Reading(step, 0.5, None, 0.1 * step, {"contrast": -0.2}, ("it fell",) if step == 4 else (), step == 2)
        for step in (2, 4, 6)
    ]
    folder.save_readings(readings)
    with (folder.path / "guard.jsonl").open("a") as file:
        file.write('{"step": 8, "torn')
    assert folder.readings(4) == readings[:2]
    assert folder.readings(9) == readings[:2]
    assert new().readings(4) == []


def test_the_best_state_counts_only_where_the_run_goes_on_behind_it(new):
    folder = new()
    assert folder.load_best(9) is None
    save_checkpoint(folder.best, checkpoint(4))
    assert folder.load_best(4).step == 4
    assert folder.load_best(3) is None


def test_evaluations_join_those_of_an_earlier_session(new):
    def evaluation(reward):
        total = torch.tensor([reward])
        return Evaluation(("a",), (1,), torch.zeros(1, 2, 2, 3), {"a": total}, total, None)

    folder = new()
    folder.save_evaluations({0: evaluation(0.0), 10: evaluation(1.0), 2: evaluation(float("nan"))})
    folder.save_evaluations({0: evaluation(0.0), 10: evaluation(3.0), 12: evaluation(4.0)})
    records = json.loads((folder.path / "evaluations.json").read_text())
    assert [(record["step"], record["reward"]) for record in records] == [(0, 0.0), (2, None), (10, 3.0), (12, 4.0)]
    assert records[0]["rewards"] == {"a": 0.0}
    assert records[0]["judge"] is None


def test_only_an_empty_folder_is_discarded(tmp_path, new):
    empty, used = new("empty"), new("used")
    used.save_summary({"steps": 3, "reward": float("nan")})
    for folder in (empty, used, empty):
        folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["used_00001"]
    assert json.loads((used.path / "summary.json").read_text()) == {"steps": 3, "reward": None}


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{", b"null", b'{"a": 1}', b"[" * 100_000, b"\xff\xfe\x00", b'[{"step": "1"}]', b'[{"no": 1}]'],
)
def test_evaluations_that_cannot_be_read_are_set_aside(new, said, content):
    folder = new()
    file = folder.path / "evaluations.json"
    file.write_bytes(content)
    total = torch.ones(1)
    folder.save_evaluations({2: Evaluation(("a",), (1,), torch.zeros(1, 2, 2, 3), {"a": total}, total, None)})
    assert [record["step"] for record in json.loads(file.read_text())] == [2]
    assert file.with_name("evaluations.json.unreadable").read_bytes() == content
    assert len(said) == 1
    assert "evaluations.json cannot be read" in said[0]


RECORD = {
    "step": 1,
    "reward_mean": 0.5,
    "reward_std": None,
    "groups": 2,
    "zero_spread_groups": 0,
    "skipped": False,
    "rewards": {"a": [0.5, None]},
}


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b"7",
        b"[]",
        json.dumps(RECORD | {"step": "2"}).encode(),
        json.dumps(RECORD | {"step": 2.5}).encode(),
        json.dumps(RECORD | {"step": True}).encode(),
        json.dumps(RECORD | {"step": -5}).encode(),
        json.dumps(RECORD | {"step": 1}).encode(),
        json.dumps(RECORD | {"step": 2, "rewards": None}).encode(),
        json.dumps(RECORD | {"step": 2, "rewards": {"a": 1}}).encode(),
        json.dumps(RECORD | {"step": 2, "groups": None}).encode(),
        json.dumps({key: value for key, value in RECORD.items() if key != "reward_mean"}).encode(),
    ],
)
def test_metrics_that_are_no_records_are_left_out_and_the_file_is_set_aside(new, said, line):
    folder = new()
    content = json.dumps(RECORD).encode() + b"\n" + line + b"\n" + json.dumps(RECORD | {"step": 3}).encode() + b"\n"
    folder.metrics.write_bytes(content)
    assert folder.history(9) == [RECORD, RECORD | {"step": 3}]
    assert len(folder.metrics.read_text().splitlines()) == 2
    assert folder.metrics.with_name("metrics.jsonl.unreadable").read_bytes() == content
    assert len(said) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"alarms": None}, {"best": "yes"}, {"changes": {"contrast": "x"}}, {"held_out": "x"}, {"more": 1}, {"step": "2"}],
)
def test_readings_that_are_none_are_left_out(new, said, wrong):
    folder = new()
    first = Reading(1, 0.5, None, 0.1, {"contrast": -0.2}, (), True)
    folder.save_readings([first])
    (folder.path / "guard.jsonl").open("a").write(json.dumps(first.to_dict() | {"step": 2} | wrong) + "\n")
    assert folder.readings(9) == [first]
    assert len(said) == 1


def test_one_program_trains_in_a_folder(new, existing, said):
    folder = new()
    save_checkpoint(folder.checkpoint, checkpoint(1))
    with pytest.raises(ConfigError, match=r"^resume: 'run_00001' is in use by process \d+ on .*: wait until"):
        existing("run_00001")
    folder.release()
    existing("run_00001").release()
    assert said == []


def test_a_run_whose_newest_checkpoint_is_gone_is_offered_too(tmp_path, new, existing):
    folder = new()
    for step in (1, 2):
        save_checkpoint(folder.checkpoint, checkpoint(step))
    folder.checkpoint.unlink()
    folder.release()
    assert RunFolder.resumable(tmp_path) == ["run_00001"]
    assert existing("run_00001").load_checkpoint().step == 1


def test_what_a_crash_left_half_written_is_removed(new, existing):
    folder = new()
    save_checkpoint(folder.checkpoint, checkpoint(1))
    (folder.path / "checkpoint.safetensors.7.part").write_bytes(b"half")
    folder.release()
    existing("run_00001")
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint.safetensors", "in_use.lock"]
