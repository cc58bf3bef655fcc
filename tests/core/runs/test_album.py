"""The small pictures in a run's folder: what is kept of measurements and groups, and what is read of damaged ones."""

import io
import json

import pytest
import torch
from PIL import Image

from _toy import PROMPTS, SEEDS, drive, toy_config
from pave_core.evaluation.evaluate import Evaluation
from pave_core.runs import album
from pave_core.runs.folder import RunFolder
from pave_core.runs.shown import view_of
from pave_core.training.metrics import Group


def evaluation(size=8, value=0, prompts=2, seeds=(5, 6)):
    """Images in 8 bits, each with a grey of its own: the number of the image times 10, plus `value`."""
    count = prompts * len(seeds)
    greys = torch.arange(count).mul(10).add(value).to(torch.uint8)
    images = greys.view(-1, 1, 1, 1).expand(-1, size, size, 3).clone()
    texts = tuple(f"prompt {i}" for i in range(prompts) for _ in seeds)
    scores = torch.arange(float(count))
    return Evaluation(texts, tuple(seeds) * prompts, images, {"r": scores}, scores, None)


def grey(file):
    return Image.open(file).convert("L").getpixel((0, 0))


def test_of_each_prompt_the_image_of_its_first_seed_is_kept(tmp_path):
    album.save_measured(tmp_path, 0, evaluation())
    album.save_measured(tmp_path, 7, evaluation(value=3))
    assert album.measured_of(tmp_path) == {
        "places": [{"prompt": "prompt 0", "seed": 5}, {"prompt": "prompt 1", "seed": 5}],
        "steps": [0, 7],
    }
    shown = {
        (step, place): grey(album.picture_in(tmp_path, "measured", step, place)) for step in "07" for place in "01"
    }
    assert shown == {("0", "0"): 0, ("0", "1"): 20, ("7", "0"): 3, ("7", "1"): 23}


def test_only_some_images_may_be_there(tmp_path):
    """As of many prompts."""
    whole = evaluation(prompts=3)
    some = Evaluation(
        whole.prompts, whole.seeds, whole.images[[1, 4, 5]], whole.scores, whole.total, None, kept=(1, 4, 5)
    )
    album.save_measured(tmp_path, 1, some)
    assert [each["prompt"] for each in album.measured_of(tmp_path)["places"]] == ["prompt 0", "prompt 2"]
    assert [each["seed"] for each in album.measured_of(tmp_path)["places"]] == [6, 5]
    assert [grey(album.picture_in(tmp_path, "measured", "1", place)) for place in "01"] == [10, 40]


def test_of_many_steps_some_are_kept_evenly(tmp_path):
    kept = []
    for step in range(0, 1000, 2):
        kept = album.thinned([*kept, step])
        assert (kept[0], kept[-1]) == (0, step)
        assert len(kept) == min(step // 2 + 1, album.MOST_STEPS)
        widest = max((b - a for a, b in zip(kept, kept[1:])), default=0)
        assert widest <= max(2, 3 * step / album.MOST_STEPS), kept
    last = album.MOST_STEPS + 2
    for step in range(last + 1):
        album.save_measured(tmp_path, step, evaluation())
    steps = album.measured_of(tmp_path)["steps"]
    assert (len(steps), steps[0], steps[-1]) == (album.MOST_STEPS, 0, last)
    names = {path.name for path in (tmp_path / "measured").iterdir()}
    assert names == {"measured.json", *(f"{step}_{place}.jpg" for step in steps for place in (0, 1))}


def test_pictures_of_a_step_have_at_most_two_megabytes(tmp_path):
    noise = torch.randint(0, 256, (6, 1024, 1024, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    texts = tuple(f"{i}" for i in range(6))
    album.save_measured(tmp_path, 0, Evaluation(texts, (1,) * 6, noise, {"r": torch.zeros(6)}, torch.zeros(6), None))
    files = list((tmp_path / "measured").glob("*.jpg"))
    assert len(files) == 6
    assert sum(file.stat().st_size for file in files) <= 2_000_000
    assert all(max(Image.open(file).size) <= 512 for file in files)


def group(value, count=3):
    images = torch.full((count, 8, 8, 3), value, dtype=torch.uint8)
    scores = {"colour": tuple(float(i) for i in range(count)), "clip": (float("nan"),) * count}
    return Group("a <b>cat</b>", images, scores, tuple(float(i % 2) for i in range(count)))


def test_the_last_group_replaces_the_one_before(tmp_path):
    assert album.group_in(tmp_path) is None
    album.save_group(tmp_path, 3, group(10, count=5))
    album.save_group(tmp_path, 4, group(200))
    found = album.group_in(tmp_path)
    assert (found["step"], found["prompt"]) == (4, "a <b>cat</b>")
    assert found["images"] == [
        {"place": i, "advantage": float(i % 2), "scores": {"colour": float(i), "clip": None}} for i in (1, 0, 2)
    ]
    assert {path.name for path in (tmp_path / "group").iterdir()} == {"group.json", "4_0.jpg", "4_1.jpg", "4_2.jpg"}
    assert grey(album.picture_in(tmp_path, "group", "4", "2")) == 200


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"step": 1, "prompt": "a", "images": []}'),
        b'{"step": 4, "prompt": "a", "images": [{"place": 9, "advantage": 1, "scores": {}}]}',
        b'{"step": 4, "prompt": "a", "images": [{"place": 0, "advantage": NaN, "scores": {}}]}',
        b'{"step": 4, "prompt": "a", "images": [{"place": 0, "advantage": "x", "scores": {}}]}',
        b'{"step": 4, "prompt": "a", "images": [{"place": 0, "advantage": 1, "scores": {"a": {}}}]}',
        b'{"step": 4, "prompt": 1, "images": [{"place": 0, "advantage": 1, "scores": {}}]}',
        b'{"step": "../4", "prompt": "a", "images": [{"place": 0, "advantage": 1, "scores": {}}]}',
        b'[{"prompt": "a", "seed": 1}, {"prompt": 3, "seed": 1}]',
    ],
)
def test_what_is_damaged_is_not_there(tmp_path, content):
    album.save_group(tmp_path, 4, group(10))
    album.save_measured(tmp_path, 4, evaluation())
    (tmp_path / "group" / "group.json").write_bytes(content)
    (tmp_path / "measured" / "measured.json").write_bytes(content)
    assert album.group_in(tmp_path) is None
    assert album.measured_of(tmp_path)["places"] == []


def test_names_and_links_lead_nowhere_else(tmp_path):
    run, secret = tmp_path / "run", tmp_path / "secret"
    album.save_measured(run, 4, evaluation())
    album.save_measured(secret, 4, evaluation(value=99))
    bad = ("..", "", "04", "4.", "-4", "٤", "4\n", "4/..", "../../secret/measured/4", "9" * 30)
    assert [album.picture_in(run, "measured", step, "0") for step in bad] == [None] * len(bad)
    assert [album.picture_in(run, "measured", "4", place) for place in bad] == [None] * len(bad)
    assert album.picture_in(run, "../secret/measured", "4", "0") is None
    (run / "measured" / "5_0.jpg").symlink_to(secret / "measured" / "4_0.jpg")
    assert album.picture_in(run, "measured", "5", "0") is None
    (run / "group").symlink_to(secret / "measured")
    assert album.picture_in(run, "group", "4", "0") is None
    assert album.group_in(run) is None
    with (run / "measured" / "4_1.jpg").open("wb") as file:
        file.truncate(album.TOGETHER + 1)
    assert album.picture_in(run, "measured", "4", "1") is None


def test_a_run_shows_each_measurement_and_its_last_group(begin):
    run = begin(toy_config(iterations=5, checkpoint_every=100), evaluate_every=2)
    drive(run, until=5)
    folder = run.folder.path
    view = view_of(folder, live=True)["measured"]
    assert view["steps"] == [0, 2, 4]
    assert view["places"] == [{"prompt": prompt, "seed": SEEDS[0]} for prompt in PROMPTS]
    run.finish()
    run.close()
    assert view_of(folder)["measured"]["steps"] == [0, 2, 4, 5]
    found = album.group_in(folder)
    assert found["step"] == 5
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["prompt"] == last["prompts"][0]
    picture = Image.open(io.BytesIO(album.picture_in(folder, "group", "5", "0").read_bytes()))
    assert picture.format == "JPEG"


def test_pictures_of_steps_that_a_crash_took_are_not_shown(begin):
    run = begin(toy_config(iterations=9, checkpoint_every=100), evaluate_every=2)
    drive(run, until=5)
    lines = (run.folder.path / "metrics.jsonl").read_text().splitlines()
    (run.folder.path / "metrics.jsonl").write_text("\n".join(lines[:3]) + "\n")
    assert view_of(run.folder.path)["measured"]["steps"] == [0, 2]


def test_pictures_that_cannot_be_written_are_one_warning_and_end_nothing(begin, caplog):
    run = begin(toy_config(iterations=3), evaluate_every=1)
    for name in ("measured", "group"):
        (run.folder.path / name).write_text("a file where a folder belongs")
    drive(run)
    assert run.finish().summary.steps == 3
    said = [record.getMessage() for record in caplog.records if "measured" in record.getMessage()]
    assert len([text for text in said if "could not be written" in text]) == 1
    assert view_of(run.folder.path)["measured"] == {"places": [], "steps": []}


def test_a_new_run_does_not_take_the_name_of_a_lora_that_is_left(tmp_path):
    told = []
    taken = {"a_00001", "a_00002"}.__contains__
    folder = RunFolder.new(tmp_path, "a", told.append, taken)
    folder.release()
    assert folder.name == "a_00003"
