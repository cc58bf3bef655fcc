"""The questions that wait for a person: a training thread puts them, a page answers them.

One desk, as the host runs one graph at a time. What was clicked is on disk before the page is told that it was taken:
answers in the run's folder, and with them the draft of the question that is open, so that a closed page, a restart of
the server and Cancel lose nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from server import PromptServer

from ....pave_core.errors import ConfigError, quoted
from ....pave_core.files import WriteError, write_atomically
from ....pave_core.images import thumbnail
from ....pave_core.person.choice import Choice, Question
from ....pave_core.person.clicks import Clicks
from ....pave_core.runs.folder import LOCK
from .. import folders, interrupt
from .live import live

logger = logging.getLogger("pave")

EVENT = "pave.person"
SIDE = 768
"""Pixels of the longer side of an image that is shown, at the most."""
TOGETHER = 2_000_000
"""Bytes of the images of a question, at the most."""
POLL = 0.1
"""Seconds between two looks at the host's Cancel."""
PERSON = "person"
"""The folder of the answers, in that of their run; beside those of the runs for what is answered outside one."""


class LateError(Exception):
    """An answer to a question that no longer waits; its text is for people."""


@dataclass(frozen=True)
class Draft:
    """What is picked of the open question, before it is confirmed."""

    picked: tuple[int, ...] = ()  # places, in the order in which they were picked
    ranking: bool = False  # whether that order is a ranking


class Desk:
    """The questions of one ask() at a time, and what was answered."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._clicks: Clicks | None = None
        self._folder: Path | None = None
        self._run: str | None = None
        self._questions: list[Question] = []  # of the ask that waits, answered ones too
        self._answers: dict[str, Choice] = {}  # by key, in the order in which they came
        self._told: int | None = None  # how many of the questions were answered when it was shown last
        self._draft = Draft()
        self._last: str | None = None  # the key of the answer that was given last
        self._learnt: Callable[[], dict[str, Any] | None] = lambda: None
        self._picture = _no_picture

    def put(
        self, questions: Sequence[Question], clicks: Clicks, folder: Path, learnt: Callable[[], dict[str, Any] | None]
    ) -> None:
        """Put the questions on the desk, if they are not on it."""
        now = live()
        with self._changed:
            if [each.key for each in self._questions] == [each.key for each in questions]:
                return
            self._questions, self._last, self._told = list(questions), None, None
            self._answers = {each.key: choice for each in questions if (choice := clicks.of(each.key)) is not None}
            self._clicks, self._folder, self._learnt = clicks, folder, learnt
            self._run = None if now is None else now.name
            self._picture = cache(partial(_thumbnail, {each.key: each for each in questions}))
            self._draft = self._stored_draft()
        self._tell()

    def ask(
        self, questions: Sequence[Question], clicks: Clicks, folder: Path, learnt: Callable[[], dict[str, Any] | None]
    ) -> list[Choice]:
        """The answer to each; waits for the person. Cancel and what is ordered of the run are let in meanwhile."""
        known = [clicks.of(each.key) for each in questions]
        if None not in known:
            self._clear(questions)
            return [choice for choice in known if choice is not None]
        now = live()
        check = interrupt.check if now is None else now.steering.check
        try:
            self.put(questions, clicks, folder, learnt)
            for question in questions:  # while the person looks
                with contextlib.suppress(WriteError):  # it is told when the question is answered
                    clicks.keep(question)
            logger.info(f"Pave-GRPO waits for answers to {len(questions)} questions, on the page")
            while (answers := self._given(questions)) is None:
                check()
            return answers
        finally:
            self._clear(questions)

    def _given(self, questions: Sequence[Question]) -> list[Choice] | None:
        """The answers, after the next one or a little while; None: one is missing. With each, what waits is shown."""
        now = live()
        with self._changed:
            done = sum(each.key in self._answers for each in questions)
            if done != self._told and now is not None and now.steps is not None:
                self._told = done
                now.within((now.step or 0) + 1, now.steps, ("waiting for you", done, len(questions)))
            if self._open() is not None:
                self._changed.wait(POLL)
            return None if self._open() is not None else [self._answers[each.key] for each in questions]

    def _clear(self, questions: Sequence[Question]) -> None:
        """Take these questions off the desk."""
        with self._changed:
            if [each.key for each in self._questions] != [each.key for each in questions]:
                return
            self._questions = []
            self._picture = _no_picture
        self._tell()

    def state(self) -> dict[str, Any]:
        """All that the page shows, as JSON values."""
        with self._changed:
            self._leave_the_dead()
            question, now = self._open(), live()
            open_ = [each for each in self._questions if each.key not in self._answers]
            learnt = self._learnt()
            return {
                "run": self._run if now is not None and now.name == self._run else None,
                "step": None if now is None else now.step,
                "steps": None if now is None else now.steps,
                "phase": None if now is None or now.phase is None else dict(zip(_PHASE, now.phase, strict=True)),
                "question": None if question is None else self._shown(question),
                "open": len(open_),
                "asked": len(self._questions),
                "answered": 0 if self._clicks is None else self._clicks.count,
                "undo": self._last is not None,
                "learnt": learnt,
            }

    def picture(self, key: str, place: int) -> bytes | None:
        """A JPEG of an image of a question that is on the desk; None of another."""
        with self._changed:
            question = next((each for each in self._questions if each.key == key), None)
            picture = self._picture
        return picture(key, place) if question is not None and place < len(question.images) else None

    def draft(self, key: str, draft: Draft) -> None:
        """Remember what is picked so far. LateError for another question; ConfigError for what it has not."""
        with self._changed:
            if key in self._answers:
                return  # it was on its way
            question = self._waiting(key)
            if len(set(draft.picked)) < len(draft.picked) or not set(draft.picked) <= set(range(len(question.images))):
                raise ConfigError(f"picked: {quoted(draft.picked)} does not name images of the question, each once")
            self._draft = draft
            assert self._folder is not None
            values = {"key": key, "picked": draft.picked, "ranking": draft.ranking}
            with contextlib.suppress(WriteError):  # it is told when the question is answered
                write_atomically(self._folder / "draft.json", json.dumps(values).encode())
        self._tell()

    def answer(self, key: str, choice: dict[str, Any]) -> None:
        """Take the answer, as JSON values. LateError if the question waits no longer; ConfigError for what is none."""
        with self._changed:
            question = self._waiting(key)
            taken = Choice.of(choice, len(question.images))
            assert self._clicks is not None
            self._clicks.add(question, taken, step=question.step, seed=question.seed)
            self._answers[key], self._last = taken, key
            self._draft = Draft()
            self._changed.notify_all()
        self._tell()

    def undo(self) -> str:
        """Take the last answer back, and say what that does. LateError where there is none."""
        with self._changed:
            if self._last is None or self._clicks is None:
                raise LateError("there is no choice to take back")
            key, self._last = self._last, None
            self._clicks.withdraw(key)
            again = self._answers.pop(key, None) if self._questions else None
            if again is not None:
                self._draft = _as_draft(again)
                said = "You are asked again."
            else:
                said = "The step has learnt from it already; what is learnt from your choices no longer does."
        self._tell()
        return said

    def _leave_the_dead(self) -> None:
        """Drop what was put for a run that has ended before it asked."""
        now = live()
        if self._run is not None and (now is None or now.name != self._run):
            self._questions = []

    def _open(self) -> Question | None:
        return next((each for each in self._questions if each.key not in self._answers), None)

    def _waiting(self, key: str) -> Question:
        """The question that is open, if it has this key."""
        self._leave_the_dead()
        question = self._open()
        if question is not None and question.key == key:
            return question
        if key in self._answers:
            raise LateError("This was answered already, on another page: the first answer counts.")
        raise LateError("This question no longer waits for an answer.")

    def _shown(self, question: Question) -> dict[str, Any]:
        height, width = question.images.shape[1:3]
        return {
            "key": question.key,
            "prompt": question.prompt,
            "step": question.step,
            "images": len(question.images),
            "width": width,
            "height": height,
            "picked": list(self._draft.picked),
            "ranking": self._draft.ranking,
        }

    def _stored_draft(self) -> Draft:
        """The draft that was stored last, if it is of the question that is open."""
        question = self._open()
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            assert self._folder is not None
            stored = json.loads((self._folder / "draft.json").read_text("utf-8"))
            picked = tuple(stored["picked"])
            images = 0 if question is None else len(question.images)
            if question is not None and stored["key"] == question.key and set(picked) <= set(range(images)):
                return Draft(picked, stored["ranking"] is True)
        return Draft()

    def _tell(self) -> None:
        """Say that there is something new."""
        with self._changed:
            event = {"run": self._run, "open": sum(each.key not in self._answers for each in self._questions)}
        PromptServer.instance.send_sync(EVENT, event)


_PHASE = ("what", "done", "whole")


def _no_picture(key: str, place: int) -> bytes | None:
    return None


def _thumbnail(questions: dict[str, Question], key: str, place: int) -> bytes:
    images = questions[key].images
    return thumbnail(images[place], SIDE, TOGETHER // len(images))


def _as_draft(choice: Choice) -> Draft:
    """An answer as the draft that it was: the last tier are those that were not picked."""
    picked = choice.tiers[:-1]
    return Draft(tuple(place for tier in picked for place in tier), ranking=len(picked) > 1)


desk = Desk()


class PageAsker:
    """Puts questions to whoever looks at the page. learnt: what the page is told of what was learnt from the answers.

    The answers are in the folder of the run that trains when it asks, so that each run has its own.
    """

    def __init__(self) -> None:
        self.learnt: Callable[[], dict[str, Any] | None] = lambda: None

    def put(self, questions: Sequence[Question]) -> None:
        desk.put(questions, _clicks_in(self.folder()), self.folder(), self.learnt)

    def ask(self, questions: Sequence[Question]) -> list[Choice]:
        return desk.ask(questions, _clicks_in(self.folder()), self.folder(), self.learnt)

    def answered(self) -> list[tuple[Question, Choice]]:
        return _clicks_in(self.folder()).all()

    def folder(self) -> Path:
        """Where the answers are kept now."""
        now, runs = live(), folders.places().runs
        return runs / PERSON if now is None else runs / now.name / PERSON


_known: dict[Path, Clicks] = {}


def _clicks_in(folder: Path) -> Clicks:
    """The answers in `folder`: read once, and kept for the run that trains alone."""
    if folder not in _known:
        _adopt(folder)
        _known.clear()
        _known[folder] = Clicks(folder)
    return _known[folder]


def _adopt(folder: Path) -> None:
    """Take over what was answered in a run of the same name that was cancelled before its first step.

    It cannot be resumed; the run that begins next with the same settings asks the same, and so finds the answers.
    """
    run, runs = folder.parent, folders.places().runs
    if folder.exists() or run == runs:
        return
    stem = run.name.rpartition("_")[0]
    with contextlib.suppress(OSError):
        for other in sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            alike = other.name.rpartition("_")[0] == stem and other.is_dir() and not other.is_symlink()
            if alike and PERSON in (left := {path.name for path in other.iterdir()}) and left <= {PERSON, LOCK}:
                with contextlib.suppress(Timeout), FileLock(other / LOCK, timeout=0):  # else another program is in it
                    (other / PERSON).replace(folder)
                    return
