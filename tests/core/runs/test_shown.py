"""What is shown of runs, from folders that runs have left and from damaged ones."""

import json
import os
import shutil

import pytest

from _toy import Negative, drive, toy_config
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.runs.shown import lines_of, seconds_of_a_step, view_of


@pytest.fixture
def left(begin, places):
    """left(steps, **task) -> the folder of a run that was stopped after so many steps, or finished after all."""

    def leave(steps=4, **task):
        run = begin(toy_config(iterations=4), **task)
        drive(run, until=steps)
        if steps == 4:
            run.finish()
            run.close()
        else:
            run.stop("cancelled")
        return run.folder.path

    return leave


def contents(folder):
    """{name: content} of all files of a run."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_view_has_the_numbers_of_the_files(left):
    folder = left(judge=Negative(), guard=GuardSettings(GuardConfig(every=2, max_drop=9.0), None))
    view = view_of(folder)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (view["name"], view["status"], view["step"], view["steps"]) == (folder.name, "finished", 4, 4)
    assert view["steps_done"] == [1, 2, 3, 4]
    assert view["curves"]["reward"] == [record["reward_mean"] for record in records]
    assert view["curves"]["learning rate"] == [record["learning_rate"] for record in records]
    (name,) = view["rewards"]
    assert view["rewards"][name]["spread"] == [record["rewards"][name][1] for record in records]
    assert view["seconds"]["update"] == [record["seconds"]["update"] for record in records]
    evaluations = json.loads((folder / "evaluations.json").read_text())
    assert [each["step"] for each in view["evaluations"]] == [0, 2, 4]
    assert [each["gain"] for each in view["evaluations"]] == [each["gain"] for each in evaluations]
    assert view["evaluations"][0] == {"step": 0, "gain": 0, "se": 0, "judge": evaluations[0]["judge"]}
    last = view["evaluations"][-1]
    assert last["gain"] == pytest.approx(evaluations[-1]["reward"] - evaluations[0]["reward"], abs=1e-6)
    summary = json.loads((folder / "summary.json").read_text())
    (chosen,) = (each for each in view["evaluations"] if each["step"] == summary["guard"]["chosen"])
    assert chosen["se"] == pytest.approx(summary["reward_se"])
    assert [reading["step"] for reading in view["guard"]] == [2, 4]
    assert view["guard"][0]["drift"] is not None
    assert view["pictures"] == ["curve", "grid"]
    assert view["curves"]["memory"] == [record["memory"] for record in records]
    assert view["curves"]["memory"][0] > 0
    assert view["curves"]["divergence"] == [None] * 4, "kl_weight is 0"
    assert (view["resumable"], view["workflow"]) == (True, False)
    json.dumps(view, allow_nan=False)


def test_the_list_says_how_each_run_ended_newest_first(left, places):
    finished, stopped = left(4), left(2)
    (places.runs / "recipes").mkdir()
    (places.runs / "recipes" / "pave.json").write_text("{}")
    (places.runs / "begun_00001").mkdir()
    (places.runs / "begun_00001" / "in_use.lock").touch()
    broken = places.runs / "broken_00001"
    broken.mkdir()
    (broken / "metrics.jsonl").write_bytes(b"\0\xff wat\n" * 3)
    for age, folder in enumerate((broken, places.runs / "begun_00001", stopped, finished)):
        for file in folder.rglob("*"):
            os.utime(file, (1000 + age, 1000 + age))
    lines = lines_of(places.runs, places.loras)
    assert [(line.name, line.status, line.step, line.steps) for line in lines] == [
        (finished.name, "finished", 4, 4),
        (stopped.name, "stopped", 2, 4),
        ("begun_00001", "begun", 0, None),
        ("broken_00001", "damaged", 0, None),
    ]
    assert [line.modified for line in lines] == [1003, 1002, 1001, 1000]
    assert lines[0].gain == tuple(view_of(finished)["evaluations"][-1][name] for name in ("gain", "se"))
    assert [line.lora for line in lines] == [line.resumable for line in lines] == [True, True, False, False]
    rewards = view_of(stopped)["curves"]["reward"]
    assert (lines[1].reward, lines[1].curve) == (rewards[-1], rewards)
    assert [line.picture is None for line in lines] == [False, False, True, True]
    assert lines[0].megabytes == pytest.approx(sum(len(content) for content in contents(finished).values()) / 1e6)
    assert lines_of(places.runs, places.loras, stopped.name)[1].status == "training"
    assert lines_of(places.runs / "none", places.loras) == []


def test_a_run_that_goes_on_after_it_was_finished_is_not_finished(left):
    folder = left(4)
    with (folder / "metrics.jsonl").open("a") as file:
        record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        file.write(json.dumps(record | {"step": 5}) + "\n")
    assert view_of(folder)["status"] == "stopped"
    assert view_of(folder, live=True)["status"] == "training"


def test_what_the_loss_was_limited_by_is_shown_where_it_was(left):
    folder = left(4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for step, record in enumerate(lines[:3]):
        for place, chain in enumerate(record["segments"].values()):
            chain["kl"] = step * (1 + 2 * place)
    lines[3]["segments"] = {"1": {"kl": "<b>"}, "2": None}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    chains = len(lines[0]["segments"])
    mean = sum(1 + 2 * place for place in range(chains)) / chains
    view = view_of(folder)
    assert view["curves"]["divergence"] == [0, mean, 2 * mean, None]
    assert view["curves"]["limited"] == [None] * 4


def test_the_curve_of_the_list_is_the_gain_where_there_is_one(left, begin):
    (line,) = lines_of(left(4).parent, left(4).parent)[:1]
    assert len(line.curve) == 4, "the reward"
    run = begin(toy_config(iterations=60), evaluate_every=1)
    drive(run)
    run.finish()
    run.close()
    gains = [each["gain"] for each in view_of(run.folder.path)["evaluations"]]
    (line,) = (line for line in lines_of(run.folder.path.parent, run.folder.path) if line.name == run.folder.name)
    assert (len(line.curve), line.curve[0], line.curve[-1]) == (40, gains[0], gains[-1])
    assert [gains.index(value) for value in line.curve[1:]] == sorted(gains.index(value) for value in line.curve[1:])


FILES = ("metrics.jsonl", "evaluations.json", "guard.jsonl", "summary.json")
DAMAGED = (
    *(b"", b"{", b"[]", b"{}", b"null", b"[" * 100_000, b"\xff\xfe", b'{"step": "x"}\n', b"[1, [2], {}]\n"),
    *(b'{"step": 1, "rewards": []}\n', b'[{"step": NaN, "gain": 1, "gain_se": 1}]', b'{"step": 1, "alarms": 3}\n'),
)


def test_what_cannot_be_read_is_left_out_and_changes_nothing(left):
    folder = left(4, guard=GuardSettings(GuardConfig(every=2, max_drop=9.0), Negative()))
    whole = contents(folder)
    for name in FILES:
        for content in DAMAGED:
            (folder / name).write_bytes(content)
            json.dumps(view_of(folder), allow_nan=False)
            assert [line.name for line in lines_of(folder.parent, folder.parent)] == [folder.name]
            assert contents(folder) == whole | {name: content}
        (folder / name).write_bytes(whole[name])


def test_hostile_numbers_and_links_are_not_followed(left, tmp_path):
    folder = shutil.copytree(left(4), tmp_path / "copy")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    record = json.loads(lines[-1]) | {"step": 5, "reward_mean": None, "grad_norm": "<b>", "seconds": [], "loss": 1e999}
    (folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(record)]) + "\n")
    view = view_of(folder)
    assert view["curves"]["reward"][-1] is view["curves"]["gradient"][-1] is view["seconds"]["update"][-1] is None
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "link_00001").symlink_to(folder)
    assert lines_of(tmp_path / "linked", tmp_path) == []


def test_the_seconds_of_a_step_are_those_of_the_last():
    assert seconds_of_a_step({}) is None
    assert seconds_of_a_step({"update": [9.0] * 5 + [1.0] * 10, "decode": [9.0] * 5 + [None] * 10}) == 1.0


def test_what_was_measured_is_seen_before_the_next_checkpoint(begin):
    run = begin(toy_config(iterations=9, checkpoint_every=100), evaluate_every=2)
    drive(run, until=5)
    assert [each["step"] for each in view_of(run.folder.path, live=True)["evaluations"]] == [0, 2, 4]
    lines = (run.folder.path / "metrics.jsonl").read_text().splitlines()
    (run.folder.path / "metrics.jsonl").write_text("\n".join(lines[:3]) + "\n")  # as after a crash
    assert [each["step"] for each in view_of(run.folder.path)["evaluations"]] == [0, 2]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(left):
    folder = left(4)
    for name in (*FILES, "checkpoint.safetensors"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    view = view_of(folder)
    assert (view["step"], view["evaluations"], view["guard"]) == (0, [], [])
    assert [line.name for line in lines_of(folder.parent, folder.parent)] == [folder.name]
