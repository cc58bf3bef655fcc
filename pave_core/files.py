"""Atomic writes, safe file names, and JSON lines."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError, TrainingError, quoted

PART = ".part"
"""The end of the name of a file that is being written."""
MAX_HEADER = 16 * 2**20
"""Bytes of the header of a safetensors file. That of FLUX.1-dev has 0.1 million; a recipe has a run's prompts in it."""
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


class WriteError(TrainingError):
    """A file could not be written; what was there before is as it was. reason: why, and what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.reason = reason_of(error)
        super().__init__(f"could not write {path}: {self.reason}")


_REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the disk is read-only: make it writable, or start ComfyUI with another --output-directory",
    errno.EACCES: "access is denied: close the programs that have it open, and look at its permissions",
    errno.EPERM: "access is denied: close the programs that have it open, and look at its permissions",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


def reason_of(error: OSError) -> str:
    """Why a file could not be read or written, and what to do where that is known."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def write_atomically(path: Path, data: bytes, *, previous: Path | None = None) -> None:
    """Write `data` to `path`, or leave what was there and raise WriteError. Missing folders are made.

    previous: where the file that was there before is moved; None: it is replaced.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        try:
            part.replace(path)
        except OSError:
            if previous is not None and not path.exists():
                previous.replace(path)
            raise
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise WriteError(path, error) from error


def remove_parts(folder: Path, name: str = "") -> None:
    """Remove what a crash has left of files that were being written: of the file `name`, or of all in `folder`."""
    for part in folder.glob(f"{glob.escape(name)}*{PART}"):
        with contextlib.suppress(OSError):
            part.unlink()


def records_text(records: Iterable[Mapping[str, Any]]) -> str:
    """Records as the text of a .jsonl file."""
    return "".join(json.dumps(record) + "\n" for record in records)


def append_records(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a .jsonl file. Missing folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(records_text(records))


def read_records(file: Path) -> tuple[list[Any], bool]:
    """(the values of the lines of a .jsonl file, whether all lines are whole).

    A last record without its end, which a crash has cut off, is left out and counts as whole.
    """
    lines = file.read_bytes().split(b"\n")
    values, whole = [], lines[-1][:1] in (b"", b"{")
    for line in lines[:-1]:
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            whole = False
    return values, whole


def set_aside(file: Path) -> Path:
    """Rename a file that cannot be read, so that a new one can be written; its new path."""
    aside = file.with_name(f"{file.name}.unreadable")
    file.replace(aside)
    return aside


def finite(value: Any) -> Any:
    """`value` with NaN and infinity replaced by None, since JSON has neither."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
