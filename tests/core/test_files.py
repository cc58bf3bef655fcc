"""Files that are whole or absent, names that stay in their folder, lines of JSON."""

import errno
import math
import os
from pathlib import Path

import pytest

from pave_core.errors import ConfigError
from pave_core.files import (
    WriteError,
    append_records,
    finite,
    read_records,
    remove_parts,
    safe_name,
    set_aside,
    write_atomically,
)


@pytest.mark.parametrize("name", ["run", " run 1 ", "a.b_c-d", "x" * 100, "0"])
def test_plain_names_are_kept(name):
    assert safe_name("run_name", name) == name.strip()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "C:x", ".hidden", "end.", "x" * 101, "a\x00b"])
def test_other_names_are_refused_by_the_field(name):
    with pytest.raises(ConfigError, match="^lora_name: .* is not a plain file name"):
        safe_name("lora_name", name)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_are_missing_are_made(tmp_path):
    write_atomically(tmp_path / "gone" / "too" / "file", b"new")
    append_records(tmp_path / "lost" / "records.jsonl", [{"step": 1}])
    assert (tmp_path / "gone" / "too" / "file").read_bytes() == b"new"
    assert (tmp_path / "lost" / "records.jsonl").read_text() == '{"step": 1}\n'


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(WriteError, match="^could not write .*file: "):
        write_atomically(tmp_path / "file", b"new")
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(WriteError, match="^could not write"):
        write_atomically(tmp_path / "plain" / "file", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "plain"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full: free some space"),
        (errno.EROFS, "the disk is read-only: make it writable"),
        (errno.EACCES, "access is denied: close the programs that have it open"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_the_reason_follows_from_the_system_s_error(tmp_path, number, remedy):
    assert remedy in str(WriteError(tmp_path / "file", OSError(number, os.strerror(number))))


def test_the_file_before_is_kept(tmp_path):
    path, previous = tmp_path / "file", tmp_path / "previous"
    for content in (b"1", b"2", b"3"):
        write_atomically(path, content, previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")


def test_a_new_file_that_cannot_be_moved_leaves_the_old_one_in_its_place(tmp_path, monkeypatch):
    """As on Windows, where a file that another program has open is not replaced."""
    path, previous = tmp_path / "file", tmp_path / "previous"
    write_atomically(path, b"old", previous=previous)
    move = Path.replace

    def refuse(self, target):
        if self.suffix == ".part":
            raise PermissionError(errno.EACCES, "in use")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(WriteError, match="access is denied"):
        write_atomically(path, b"new", previous=previous)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_removed(tmp_path):
    for name in ("a[1].safetensors.77.part", "a[1].safetensors.78.part", "b.safetensors.77.part", "a[1].safetensors"):
        (tmp_path / name).write_bytes(b"")
    remove_parts(tmp_path, "a[1].safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a[1].safetensors", "b.safetensors.77.part"]
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a[1].safetensors"]


def test_records_are_read_up_to_a_torn_line(tmp_path):
    file = tmp_path / "records.jsonl"
    append_records(file, [{"step": step, "text": "ä"} for step in (1, 2)])
    records = [{"step": 1, "text": "ä"}, {"step": 2, "text": "ä"}]
    assert read_records(file) == (records, True)
    with file.open("a") as torn:
        torn.write('{"step": 3, "torn')
    assert read_records(file) == (records, True)
    with file.open("a") as torn:
        torn.write("\nother")
    assert read_records(file) == (records, False)


@pytest.mark.parametrize("line", [b"\xff\xfe\x00", b"{", b"[" * 100_000, b'{"step": 1'])
def test_lines_that_are_no_json_are_left_out_and_said(tmp_path, line):
    file = tmp_path / "records.jsonl"
    file.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    assert read_records(file) == ([{"step": 1}, {"step": 2}], False)


def test_a_file_is_set_aside(tmp_path):
    (tmp_path / "a.json").write_text("x")
    assert set_aside(tmp_path / "a.json") == tmp_path / "a.json.unreadable"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json.unreadable"]


def test_numbers_that_are_not_finite_become_null():
    value = {"a": math.nan, "b": [1, math.inf, (2.0, -math.inf)], "c": {"d": math.nan}, "e": "nan", "f": True}
    assert finite(value) == {"a": None, "b": [1, None, [2.0, None]], "c": {"d": None}, "e": "nan", "f": True}
