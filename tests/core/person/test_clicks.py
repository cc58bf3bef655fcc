"""Answers on disk: nothing that was clicked is lost, and nothing that is read is trusted."""

import json
import os
import threading
from pathlib import Path

import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.files import WriteError
from pave_core.person import clicks as module
from pave_core.person.choice import Choice, Question
from pave_core.person.clicks import Clicks

BEST = Choice("ranked", ((1,), (0, 2)))


def question(number, prompt="a cat", n=3):
    images = torch.randint(0, 256, (n, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
    return Question(prompt, images)


def lines(folder):
    return [json.loads(line) for line in (folder / "clicks.jsonl").read_text().splitlines()]


def answered(folder):
    return [(asked.key, choice) for asked, choice in Clicks(folder).all()]


def test_what_was_clicked_is_there_again(tmp_path):
    clicks = Clicks(tmp_path / "clicks")
    asked = [question(i, prompt) for i, prompt in enumerate(["a cat", 'ein "Hund"\n<b>', "鳥"])]
    said = [BEST, Choice("none"), Choice("ranked", ((2,), (0,)))]
    for each, choice in zip(asked, said, strict=True):
        clicks.add(each, choice, step=4, seed=11)
    for read in (clicks, Clicks(tmp_path / "clicks")):
        assert read.count == 3
        assert [read.of(each.key) for each in asked] == said
        for (again, choice), each, expected in zip(read.all(), asked, said, strict=True):
            assert (again.key, again.prompt, choice) == (each.key, each.prompt, expected)
            assert torch.equal(again.images, each.images)
            assert Question(again.prompt, again.images).key == each.key
    line = lines(tmp_path / "clicks")[0]
    assert line.keys() == {"key", "prompt", "choice", "time", "pictures", "step", "seed"}
    assert (line["step"], line["seed"], line["choice"]) == (4, 11, BEST.to_dict())
    pictures = sorted(path.name for path in (tmp_path / "clicks" / "pictures").iterdir())
    assert pictures == sorted(name for line in lines(tmp_path / "clicks") for name in line["pictures"])


def test_what_is_withdrawn_is_no_longer_answered(tmp_path):
    clicks, asked = Clicks(tmp_path), [question(i) for i in range(3)]
    for each in asked:
        clicks.add(each, BEST)
    clicks.withdraw(asked[1].key)
    clicks.withdraw("0" * 32)  # nothing to take back
    assert clicks.of(asked[1].key) is None
    assert clicks.count == 2
    assert answered(tmp_path) == [(asked[0].key, BEST), (asked[2].key, BEST)]
    clicks.add(asked[1], Choice("none"))  # answered again: now the newest
    clicks.add(asked[0], Choice("skipped"))  # in place of the first answer
    expected = [(asked[2].key, BEST), (asked[1].key, Choice("none")), (asked[0].key, Choice("skipped"))]
    assert answered(tmp_path) == [(each.key, choice) for each, choice in clicks.all()] == expected


@pytest.mark.parametrize("cut", [2, 20, 200])
def test_a_crash_in_the_middle_of_a_line_loses_that_answer_alone(tmp_path, cut):
    clicks, asked = Clicks(tmp_path), [question(i) for i in range(3)]
    clicks.add(asked[0], BEST)
    clicks.add(asked[1], BEST)
    file = tmp_path / "clicks.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    again = Clicks(tmp_path)
    assert [each.key for each, _ in again.all()] == [asked[0].key]
    again.add(asked[2], BEST)
    assert answered(tmp_path) == [(asked[0].key, BEST), (asked[2].key, BEST)]


def test_an_answer_without_the_end_of_its_line_counts(tmp_path):
    Clicks(tmp_path).add(question(0), BEST)
    file = tmp_path / "clicks.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    clicks = Clicks(tmp_path)
    clicks.add(question(1), BEST)
    assert answered(tmp_path) == [(each.key, choice) for each, choice in clicks.all()]
    assert clicks.count == 2


def test_a_crash_between_the_pictures_leaves_no_answer(tmp_path, monkeypatch):
    clicks, real = Clicks(tmp_path), module.write_atomically
    written = []

    def dies(path, data):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        real(path, data)

    monkeypatch.setattr(module, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        clicks.add(question(0), BEST)
    monkeypatch.undo()
    assert clicks.count == Clicks(tmp_path).count == 0
    clicks.add(question(0), BEST)
    assert answered(tmp_path) == [(question(0).key, BEST)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_is_said_and_the_question_stays_open(tmp_path):
    clicks = Clicks(tmp_path)
    (tmp_path / "clicks.jsonl").symlink_to("/dev/full")
    with pytest.raises(WriteError, match="the disk is full"):
        clicks.add(question(0), BEST)
    assert clicks.count == 0


def changed(line, **values):
    return json.dumps(line | values)


HOSTILE = {
    "no JSON": lambda line: "{",
    "no object": lambda line: "[1, 2]",
    "deep": lambda line: "[" * 100_000,
    "no key": lambda line: json.dumps({"choice": line["choice"]}),
    "a path as key": lambda line: changed(line, key="../../secret"),
    "pictures elsewhere": lambda line: changed(line, pictures=["../../secret.png"] * 3),
    "another question's pictures": lambda line: changed(line, key="f" * 32),
    "pictures that are no list": lambda line: changed(line, pictures={"a": 1}),
    "no pictures": lambda line: changed(line, pictures=[]),
    "a missing picture": lambda line: changed(line, pictures=[*line["pictures"], f"{line['key']}_3.png"]),
    "no prompt": lambda line: changed(line, prompt=None),
    "an image that is not there": lambda line: changed(line, choice={"kind": "ranked", "tiers": [[7], [0]]}),
    "a choice that contradicts itself": lambda line: changed(line, choice={"kind": "none", "tiers": [[0], [1]]}),
    "no choice": lambda line: changed(line, choice="best"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_damaged_line_is_left_out(tmp_path, what):
    clicks = Clicks(tmp_path)
    for i in range(3):
        clicks.add(question(i), BEST)
    file = tmp_path / "clicks.jsonl"
    first, second, third = file.read_text().splitlines()
    file.write_text("\n".join([first, HOSTILE[what](json.loads(second)), third, ""]))
    again = Clicks(tmp_path)
    assert [each.key for each, _ in again.all()] == [question(0).key, question(2).key]
    again.add(question(3), BEST)
    assert Clicks(tmp_path).count == 3


def test_pictures_that_are_none_are_left_out(tmp_path):
    clicks = Clicks(tmp_path / "clicks")
    for i in range(5):
        clicks.add(question(i), BEST)
    first = [tmp_path / "clicks" / "pictures" / f"{question(i).key}_0.png" for i in range(4)]
    first[0].write_bytes(b"no picture")
    outside = tmp_path / "outside.png"
    first[1].rename(outside)
    first[1].symlink_to(outside)
    first[2].unlink()
    first[3].unlink()
    os.mkfifo(first[3])  # to read it would wait for ever
    assert answered(tmp_path / "clicks") == [(question(4).key, BEST)]


def test_a_picture_that_is_cut_short_is_an_error_when_it_is_read(tmp_path):
    Clicks(tmp_path).add(question(0), BEST)
    picture = tmp_path / "pictures" / f"{question(0).key}_1.png"
    picture.write_bytes(picture.read_bytes()[:-60])
    ((stored, _),) = Clicks(tmp_path).all()
    with pytest.raises(ConfigError, match="cannot be read"):
        _ = stored.images


def test_a_file_that_is_none_is_set_aside(tmp_path):
    os.mkfifo(tmp_path / "clicks.jsonl")
    clicks = Clicks(tmp_path)
    assert clicks.count == 0
    clicks.add(question(0), BEST)
    assert Clicks(tmp_path).count == 1


def test_threads_may_answer_while_another_reads(tmp_path):
    clicks = Clicks(tmp_path)
    counts = []

    def answer(begin):
        for i in range(begin, begin + 8):
            clicks.add(question(i), BEST)

    threads = [threading.Thread(target=answer, args=(100 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counts.append(len(clicks.all()))
    for thread in threads:
        thread.join()
    assert counts == sorted(counts)
    assert clicks.count == Clicks(tmp_path).count == 32
