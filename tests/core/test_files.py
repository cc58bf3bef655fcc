"""Files that are whole or absent, names that stay in their folder, lines of JSON."""

import json
import math

import pytest

from pave_core.errors import ConfigError, TrainingError
from pave_core.files import append_record, finite, rewind, safe_name, write_atomically


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


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(TrainingError, match="^could not write .*file: .*what was there before is intact"):
        write_atomically(tmp_path / "file", b"new")
    with pytest.raises(TrainingError, match="^could not write"):
        write_atomically(tmp_path / "absent" / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_records_are_appended_and_later_ones_and_torn_lines_dropped(tmp_path):
    file = tmp_path / "records.jsonl"
    for step in range(1, 5):
        append_record(file, {"step": step, "text": "ä"})
    with file.open("a") as torn:
        torn.write('[1]\n{"no": "step"}\n{"step": 5, "torn')
    records = [{"step": step, "text": "ä"} for step in (1, 2)]
    assert rewind(file, 2) == records
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == records
    assert rewind(file, 9) == records


def test_there_is_nothing_to_rewind_in_a_file_that_is_not_there(tmp_path):
    assert rewind(tmp_path / "records.jsonl", 2) == []
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_become_null():
    value = {"a": math.nan, "b": [1, math.inf, (2.0, -math.inf)], "c": {"d": math.nan}, "e": "nan", "f": True}
    assert finite(value) == {"a": None, "b": [1, None, [2.0, None]], "c": {"d": None}, "e": "nan", "f": True}
