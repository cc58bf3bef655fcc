"""The folder of a run is removed: what the run has written there, and nothing else.

What a person has clicked stays, with the taste that was learnt from it: it cannot be made again.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ConfigError, quoted
from . import album
from .folder import LOCK
from .shown import is_run

_WRITTEN = r"(\.[0-9]+\.part|\.unreadable)?"  # of what a crash left, or could not be read
_FILES = {
    "": re.compile(
        r"(metrics\.jsonl|guard\.jsonl|steering\.jsonl|evaluations\.json|summary\.json|recipe\.json|workflow\.json|"
        r"(curve|grid)\.png|(checkpoint|best)(\.previous)?\.safetensors|lora\.safetensors)"
        rf"{_WRITTEN}|events\.out\.tfevents\..*"
    ),
    album.MEASURED: re.compile(rf"([0-9]+_[0-9]+\.jpg|measured\.json){_WRITTEN}"),
    album.GROUP: re.compile(rf"([0-9]+_[0-9]+\.jpg|group\.json){_WRITTEN}"),
    "person/pictures": re.compile(rf"[0-9a-f]{{32}}_[0-9]+\.png{_WRITTEN}"),
    "person": re.compile(rf"(clicks\.jsonl|draft\.json|taste\.safetensors){_WRITTEN}"),
}
"""{folder in that of a run: the names of what the pack writes there}; those within others first."""


def remove_run(folder: Path) -> list[str]:
    """Remove a run's folder; the names of what stays, because others have put it there or the disk refuses.

    Links are never followed. ConfigError for a folder that is none of a run, or in which a program trains.
    """
    if not is_run(folder):
        raise ConfigError(f"run: {quoted(folder.name)} is no run any more")
    if (folder / LOCK).is_symlink():  # to lock it would write to what it leads to
        raise ConfigError(f"run: {LOCK} in {quoted(folder.name)} is a link: remove the folder by hand")
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"run: {quoted(folder.name)} is in use: wait until it has ended") from None
    except (OSError, NotImplementedError):
        pass  # a disk without locks, or one that refuses: what it refuses stays
    try:
        for name, ours in _FILES.items():
            _clear(folder, name, ours)
    finally:
        lock.release()
    with contextlib.suppress(OSError):  # last, so that it is a run to the end; no locked file can be removed on Windows
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _clear(folder: Path, name: str, ours: re.Pattern[str]) -> None:
    """Remove the plain files with these names in a folder of that of a run, and it too if nothing is left."""
    place = folder / name
    if any(path.is_symlink() for path in (place, place.parent)):
        return
    with contextlib.suppress(OSError):
        for path in list(place.iterdir()):
            if ours.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.unlink()
        if name:
            place.rmdir()
