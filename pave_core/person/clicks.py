"""What a person answered, on disk, so that nothing that was clicked is lost.

<folder>/clicks.jsonl                    one JSON object per answer, or per answer that was withdrawn
<folder>/pictures/<key>_<place>.png      the images of each question that was answered, without loss

An answer is on disk when add() returns: its pictures first, each whole or absent, then its line. So a crash loses at
most the answer that was being written. Nothing that is read is trusted: damaged lines, and questions whose pictures are
missing, no plain files, or none of ours, are left out.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ConfigError
from ..files import WriteError, records_text, require_plain, set_aside, write_atomically
from ..images import encoded
from .choice import Choice, Question

MAX_FILE = 64_000_000
"""Bytes of clicks.jsonl, or of a picture, at the most: a hundred thousand answers."""
MAX_PIXELS = 64_000_000
"""Of a picture."""
_KEY = re.compile(r"[0-9a-f]{32}")
_DAMAGED = (ConfigError, OSError, ValueError, TypeError, LookupError, RecursionError, Image.DecompressionBombError)
"""What a line that is none of ours can raise."""


class Clicks:
    """The answers in a folder, which is made with the first. For all threads; a folder has one Clicks that writes."""

    def __init__(self, folder: Path) -> None:
        self._file, self._pictures = folder / "clicks.jsonl", folder / "pictures"
        self._lock = threading.Lock()
        self._kept: set[str] = set()  # keys whose pictures were written
        self._answers: dict[str, tuple[Question, Choice]] = {}
        for key, answer in self._read():
            self._answers.pop(key, None)  # the newest answer comes last
            if answer is not None:
                self._answers[key] = answer

    @property
    def count(self) -> int:
        """How many questions are answered."""
        with self._lock:
            return len(self._answers)

    def of(self, key: str) -> Choice | None:
        """The answer to the question with this key; None: it was not answered, or the answer was withdrawn."""
        with self._lock:
            answer = self._answers.get(key)
        return None if answer is None else answer[1]

    def all(self) -> list[tuple[Question, Choice]]:
        """All questions and answers, the oldest first. Their images are read from the disk when they are used."""
        with self._lock:
            return list(self._answers.values())

    def keep(self, question: Question) -> None:
        """Store the pictures of a question that is not answered yet, so that its answer need not wait for them.

        WriteError where the disk refuses.
        """
        with self._lock:
            self._keep(question)

    def add(self, question: Question, choice: Choice, **where: Any) -> None:
        """Store the answer to a question, in place of an earlier one. where: what else its line says, as JSON values,
        such as step and seed.

        WriteError where the disk refuses: the question is then not answered.
        """
        names = _names(question.key, len(question.images))
        record = {
            "key": question.key,
            "prompt": question.prompt,
            "choice": choice.to_dict(),
            "time": time.time(),
            "pictures": names,
        }
        with self._lock:
            self._keep(question)
            self._append({**where, **record})
            self._answers.pop(question.key, None)
            self._answers[question.key] = (Stored(question.prompt, question.key, self._paths(names)), choice)

    def withdraw(self, key: str) -> None:
        """Take an answer back, if there is one: its question is no longer answered. WriteError as in add()."""
        with self._lock:
            if key in self._answers:
                self._append({"key": key, "withdrawn": True, "time": time.time()})
                del self._answers[key]

    def _keep(self, question: Question) -> None:
        if question.key in self._kept:
            return
        for name, image in zip(_names(question.key, len(question.images)), question.images, strict=True):
            write_atomically(self._pictures / name, encoded(image, "PNG", compress_level=1))
        self._kept.add(question.key)

    def _paths(self, names: list[str]) -> tuple[Path, ...]:
        return tuple(self._pictures / name for name in names)

    def _append(self, record: dict[str, Any]) -> None:
        """Add a line, which is on disk afterwards. What a crash has left of the line before is ended first."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a+b") as file:
                whole = file.tell() == 0
                if not whole:
                    file.seek(-1, os.SEEK_END)
                    whole = file.read() == b"\n"
                file.write((b"" if whole else b"\n") + records_text([record]).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise WriteError(self._file, error) from error

    def _read(self) -> Iterator[tuple[str, tuple[Question, Choice] | None]]:
        """(key, answer) of each line that can be read; None: it was withdrawn. A file that is none is set aside."""
        if not os.path.lexists(self._file):
            return
        try:
            require_plain(self._file, "clicks", MAX_FILE)
            lines = self._file.read_bytes().split(b"\n")
        except (ConfigError, OSError):
            set_aside(self._file)
            return
        for line in lines:
            try:
                yield self._parsed(json.loads(line))
            except _DAMAGED:
                continue

    def _parsed(self, record: Any) -> tuple[str, tuple[Question, Choice] | None]:
        key = record["key"]
        if not _KEY.fullmatch(key):
            raise ValueError("not a key")
        if record.get("withdrawn") is True:
            return key, None
        prompt, names = record["prompt"], record["pictures"]
        if not isinstance(prompt, str) or not names or names != _names(key, len(names)):
            raise ValueError("not a question of ours")
        question = Stored(prompt, key, self._paths(names))
        if len({_size_of(path) for path in question.files}) != 1:
            raise ValueError("pictures of different sizes")
        return key, (question, Choice.of(record["choice"], len(names)))


class Stored(Question):
    """A question that was answered before. Its images are read anew each time; ConfigError where one cannot be."""

    files: tuple[Path, ...]

    def __init__(self, prompt: str, key: str, files: tuple[Path, ...]) -> None:
        for name, value in {"prompt": prompt, "key": key, "files": files}.items():
            object.__setattr__(self, name, value)  # as a frozen dataclass does it

    def __repr__(self) -> str:
        return f"Stored({self.key}, {self.prompt!r})"

    @property
    def images(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """(n, H, W, 3) in 8 bits."""
        try:
            return torch.stack([_opened(path) for path in self.files])
        except (OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
            raise ConfigError(f"pictures: those of question {self.key} cannot be read ({error})") from error


def _names(key: str, images: int) -> list[str]:
    return [f"{key}_{place}.png" for place in range(images)]


def _size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture; ValueError unless it is a plain PNG file of a size that is read."""
    require_plain(path, "pictures", MAX_FILE)
    with Image.open(path, formats=["PNG"]) as picture:
        if path.is_symlink() or picture.width * picture.height > MAX_PIXELS:
            raise ValueError("not a picture of ours")
        return picture.size


def _opened(path: Path) -> Tensor:
    """A picture (H, W, 3) in 8 bits."""
    _size_of(path)
    with Image.open(path, formats=["PNG"]) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))
