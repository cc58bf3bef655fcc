"""The folder of a run is removed: only what the pack wrote, and never what is in use."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from _toy import Negative, drive, toy_config
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.person.choice import Choice, Question
from pave_core.person.clicks import Clicks
from pave_core.runs.remove import remove_run
from pave_core.runs.shown import lines_of, recipe_in, workflow_in


@pytest.fixture
def folder(begin):
    """The folder of a run with everything that a run can leave."""
    guard = GuardSettings(GuardConfig(every=2, max_drop=9.0), Negative())
    run = begin(toy_config(iterations=4), evaluate_every=2, guard=guard)
    drive(run)
    run.finish()
    run.close()
    path = run.folder.path
    (path / "workflow.json").write_text('{"nodes": []}')
    (path / "metrics.jsonl.unreadable").write_text("")
    (path / "checkpoint.safetensors.123.part").write_text("")
    (path / "measured" / "9_0.jpg.123.part").write_text("")
    question = Question("a cat", torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    Clicks(path / "person").add(question, Choice("ranked", ((0,), (1,))))
    (path / "person" / "taste.safetensors").write_text("")
    return path


def test_nothing_of_a_run_is_left_and_its_lora_stays(folder, places):
    assert {"checkpoint.safetensors", "best.safetensors", "measured", "group", "person"} <= {
        p.name for p in folder.iterdir()
    }
    lora = places.lora(folder.name).read_bytes()
    assert remove_run(folder) == []
    assert not folder.exists()
    assert places.lora(folder.name).read_bytes() == lora
    with pytest.raises(ConfigError, match="no run any more"):
        remove_run(folder)


def test_what_others_have_put_there_stays_and_is_named(folder, places):
    (folder / "notes.txt").write_text("mine")
    (folder / "curve.png.bak").write_text("mine")
    (folder / "best").mkdir()
    (folder / "best" / "grid.png").write_text("mine")
    (folder / "measured" / "mine.jpg").write_text("mine")
    assert remove_run(folder) == ["best", "curve.png.bak", "measured", "notes.txt"]
    assert (folder / "best" / "grid.png").read_text() == (folder / "measured" / "mine.jpg").read_text() == "mine"
    assert [path.name for path in (folder / "measured").iterdir()] == ["mine.jpg"]
    assert lines_of(places.runs, places.loras) == [], "it is no run any more"


def test_links_are_not_followed(folder, tmp_path):
    kept = tmp_path / "elsewhere"
    shutil.copytree(folder, kept)
    shutil.rmtree(folder / "group")
    (folder / "group").symlink_to(kept / "group")
    (folder / "grid.png").unlink()
    (folder / "grid.png").symlink_to(kept / "grid.png")
    shutil.rmtree(folder / "person")
    (folder / "person").symlink_to(kept / "person")
    before = sorted(path.relative_to(kept) for path in kept.rglob("*"))
    assert remove_run(folder) == ["grid.png", "group", "person"]
    assert sorted(path.relative_to(kept) for path in kept.rglob("*")) == before
    (tmp_path / "link_00001").symlink_to(kept)
    with pytest.raises(ConfigError, match="no run"):
        remove_run(tmp_path / "link_00001")
    (kept / "in_use.lock").unlink(missing_ok=True)
    (tmp_path / "victim").write_text("mine")
    (kept / "in_use.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match="is a link"):
        remove_run(kept)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_run_that_is_in_use_stays_whole(folder):
    before = sorted(path.name for path in folder.iterdir())
    hold = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True)"
    command = [sys.executable, "-c", f"{hold}; sys.stdin.read()", str(folder / "in_use.lock")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"\n"
        with pytest.raises(ConfigError, match="in use"):
            remove_run(folder)
    finally:
        other.communicate()
    assert sorted({*(path.name for path in folder.iterdir()), "in_use.lock"}) == sorted({*before, "in_use.lock"})
    assert remove_run(folder) == []


def test_a_run_that_trains_in_this_process_stays_whole(begin):
    run = begin(toy_config(iterations=4))
    drive(run, until=2)
    run.keep()
    with ThreadPoolExecutor(1) as thread, pytest.raises(ConfigError, match="in use"):
        thread.submit(remove_run, run.folder.path).result()
    assert (run.folder.path / "checkpoint.safetensors").is_file()
    run.stop("cancelled")
    assert remove_run(run.folder.path) == []


def test_a_damaged_folder_can_be_removed(tmp_path):
    damaged = tmp_path / "broken_00001"
    damaged.mkdir()
    (damaged / "metrics.jsonl").write_bytes(b"\0\xff")
    (damaged / "checkpoint.safetensors").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(damaged / "curve.png")
    left = remove_run(damaged)
    assert left == ["checkpoint.safetensors", *(["curve.png"] if hasattr(os, "mkfifo") else [])]


def test_the_recipe_is_that_of_the_checkpoint_or_of_the_lora(folder, places):
    recipe = recipe_in(folder, places.lora(folder.name))
    assert recipe["config"]["run"]["iterations"] == 4
    for file in folder.glob("checkpoint*"):
        file.unlink()
    assert recipe_in(folder, places.lora(folder.name))["config"] == recipe["config"]
    places.lora(folder.name).write_bytes(b"\xff" * 100)
    assert recipe_in(folder, places.lora(folder.name)) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"nodes": 3}', b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_graph_is_not_opened(folder, content):
    assert workflow_in(folder) == {"nodes": []}
    (folder / "workflow.json").write_bytes(content)
    assert workflow_in(folder) is None


def test_a_graph_is_plain_and_small(folder, tmp_path):
    (tmp_path / "other.json").write_text('{"nodes": []}')
    (folder / "workflow.json").unlink()
    assert workflow_in(folder) is None
    (folder / "workflow.json").symlink_to(tmp_path / "other.json")
    assert workflow_in(folder) is None
    (folder / "workflow.json").unlink()
    (folder / "workflow.json").write_text('{"nodes": [], "a": NaN, "b": "' + "x" * 8_000_000 + '"}')
    assert workflow_in(folder) is None
    (folder / "workflow.json").write_text('{"nodes": [], "a": NaN}')
    assert workflow_in(folder) == {"nodes": [], "a": None}
