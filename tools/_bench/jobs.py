"""Runs of experiments as jobs for worker processes, each with a ComfyUI of its own and one thread.

Standard library only: a worker starts the host before it imports torch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

_laboratory: Any = None  # a worker's own


@dataclass(frozen=True)
class Job:
    """A run of an experiment. search: one of those that find the learning rate, measured at its end alone."""

    experiment: str
    seed: int
    learning_rate: float
    search: bool = False


class OutOfTime(Exception):  # noqa: N818 - no fault
    """The deadline has passed within a run."""


@dataclass(frozen=True)
class Setting:
    """Where and how long workers run. deadline: by time.time(); what is not done by then is given up."""

    comfyui: Path
    folder: Path  # where each has an empty folder for the host's models, input and output
    log: Path  # what the host says
    deadline: float | None = None
    scale: float = 1.0  # of the images of each run


class Workers:
    """So many processes, inside `with`."""

    def __init__(self, count: int, setting: Setting) -> None:
        # The models are tiny: a second thread takes the first one's time to wait for it.
        os.environ["OMP_NUM_THREADS"] = "1"
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), _start, (setting,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def records(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        """The records of the jobs, as they come; none for a job that was given up."""
        for future in as_completed([self._pool.submit(_run, job) for job in jobs]):
            record = future.result()
            if record is not None:
                yield record


def _start(setting: Setting) -> None:
    """Start a worker: the host in its process, with what it prints in the log."""
    global _laboratory
    Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    log = os.open(setting.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    from _cuda import host

    host.start(setting.comfyui, Path(tempfile.mkdtemp(dir=setting.folder)), cpu=True)
    from .learning import Laboratory

    _laboratory = Laboratory(setting.deadline, setting.scale)


def _end_with(parent: BaseProcess | None) -> None:
    """End this process when its parent has ended, however that happened: its queue alone would not tell."""
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(job: Job) -> dict[str, Any] | None:
    """The record of a job; None where the time was over, and "failed" where the run gave up."""
    from _cuda.host import pack_module

    lab, errors = _laboratory, pack_module("pave_core.errors")
    if lab.deadline is not None and time.time() > lab.deadline:
        return None
    try:
        return lab.run(job)
    except OutOfTime:
        return None
    except errors.TrainingError as error:  # such as a learning rate that is too high
        return {**asdict(job), **lab.about(job), "failed": str(error)}
