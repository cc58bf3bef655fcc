"""Atomic writes, safe file names, and JSON lines."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError, TrainingError

MAX_HEADER = 16 * 2**20
"""Bytes of the header of a safetensors file. That of FLUX.1-dev has 0.1 million; a recipe has a run's prompts in it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")


def safe_name(field: str, name: str) -> str:
    """`name`, stripped, if it is a plain file name; else a ConfigError about `field`.

    Plain: at most 100 letters, digits, spaces, '.', '_' and '-', a letter or digit first and no '.' last.
    """
    name = name.strip()
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(
            f"{field}: {name!r} is not a plain file name: use letters, digits, spaces, '.', '_' and '-', without a "
            "folder"
        )
    return name


def require_plain(path: Path, field: str, largest: int | None = None, remedy: str = "choose another file") -> None:
    """ConfigError about `field` unless `path` is a plain file of at most `largest` bytes: a pipe would never end."""
    if not path.is_file():
        raise ConfigError(f"{field}: {path.name} does not exist, or is no plain file: {remedy}")
    if largest is not None and path.stat().st_size > largest:
        size = f"{path.stat().st_size:,} bytes, and {largest:,} are the most that is read"
        raise ConfigError(f"{field}: {path.name} has {size}: {remedy}")


def require_header(path: Path, field: str) -> None:
    """ConfigError about `field` if the header of a safetensors file is larger than MAX_HEADER.

    One with names of tensors without end would take many seconds to read.
    """
    require_plain(path, field)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if MAX_HEADER < length < path.stat().st_size:
        raise ConfigError(
            f"{field}: {path.name} has a header of {length:,} bytes, and {MAX_HEADER:,} are the most that is read: it "
            "is damaged, or no file of weights; choose another file"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, or leave what was there and raise a TrainingError with the file and the reason."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise TrainingError(
            f"could not write {path}: {error.strerror or error}; what was there before is intact: free some space and "
            "resume"
        ) from error


def append_record(file: Path, record: Mapping[str, Any]) -> None:
    """Append `record` to a .jsonl file."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def rewind(file: Path, step: int) -> list[dict[str, Any]]:
    """Drop the records of a .jsonl file whose "step" is beyond `step`, and return those that remain.

    They are of steps after the last checkpoint, which a resumed run makes again.
    """
    if not file.exists():
        return []
    parsed = map(_parse, file.read_text("utf-8").splitlines())
    records = [record for record in parsed if record is not None and record["step"] <= step]
    write_atomically(file, "".join(json.dumps(record) + "\n" for record in records).encode())
    return records


def finite(value: Any) -> Any:
    """`value` with NaN and infinity replaced by None, since JSON has neither."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: str) -> dict[str, Any] | None:
    """The record in a line of a .jsonl file; None for a last line that a crash has cut off."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None
