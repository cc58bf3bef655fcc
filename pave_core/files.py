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

from .errors import ConfigError, TrainingError, quoted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|(COM|LPT)[0-9])\s*(\..*)?", re.IGNORECASE)
"""Names of devices, which Windows takes for those with any ending too."""


def safe_name(field: str, name: str) -> str:
    """`name`, stripped, if it is a plain file name; else a ConfigError about `field`.

    Plain: at most 100 letters, digits, spaces, '.', '_' and '-', a letter or digit first and no '.' last, and no name
    that Windows keeps for devices.
    """
    plain = name.strip() if isinstance(name, str) else ""
    if not _NAME.fullmatch(plain) or plain.endswith("."):
        raise ConfigError(
            f"{field}: {quoted(name)} is not a plain file name: use letters, digits, spaces, '.', '_' and '-', without "
            "a folder"
        )
    if _RESERVED.fullmatch(plain):
        raise ConfigError(f"{field}: {quoted(name)} is a device on Windows, never a file: choose another name")
    return plain


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
