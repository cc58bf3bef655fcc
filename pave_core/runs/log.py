"""The reporters of a run: a metrics file, TensorBoard, the log, and what a host adds (progress bar, panel)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import in_words
from ..files import append_records, finite, records_text, write_atomically
from ..memory.pace import Duration
from ..training.metrics import StepMetrics

logger = logging.getLogger("pave")


def how_far(what: str, done: int, whole: int) -> str:
    """("measuring", 3, 8) -> "measuring 3 of 8"; only what, where nobody can tell how far it is."""
    return f"{what} {done} of {whole}" if whole else what


class Reporter(Protocol):
    """A listener to the events of a run. It overrides those that it wants, and must not change the run: what it raises
    ends nothing, so that no Cancel can come from one.
    """

    def begun(self, run: str) -> None:
        """The run with this name begins: its folder is there. The first event."""

    def expected(self, duration: Duration) -> None:
        """How long what is left will take, before the first step; again when more is known."""

    def step(self, metrics: StepMetrics, steps: int) -> None:
        """Step `metrics.step` of `steps` is complete."""

    def progress(self, what: str, done: int, whole: int) -> None:
        """`done` of `whole` are done of what takes long beside the steps: "encoding", "measuring". Often called.

        whole: 0 where nobody can tell how far it is.
        """

    def within(self, step: int, steps: int, part: tuple[str, int, int]) -> None:
        """Step `step` of `steps` is under way, and in this part of it, as of progress(). Very often called."""

    def numbers(self, step: int, numbers: Mapping[str, float | None]) -> None:
        """{name: number} was measured after `step`; None for a number that was not finite, or not measured."""

    def message(self, text: str, *, warning: bool = False) -> None:
        """There is something to tell people."""

    def ended(self, text: str, *, early: bool) -> None:
        """What came of the run, for people: in few words, and after a colon at length.

        early: before its last step, as after Cancel or an error.
        """

    def close(self) -> None:
        """The run has ended. More events may come if it is finished a second time."""


class Everyone(Reporter):
    """Several reporters as one, in their order. One that fails is named in the log, once: a report never ends a run."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = reporters
        self._failed: list[Reporter] = []

    def begun(self, run: str) -> None:
        self._tell(lambda each: each.begun(run))

    def expected(self, duration: Duration) -> None:
        self._tell(lambda each: each.expected(duration))

    def step(self, metrics: StepMetrics, steps: int) -> None:
        self._tell(lambda each: each.step(metrics, steps))

    def progress(self, what: str, done: int, whole: int) -> None:
        self._tell(lambda each: each.progress(what, done, whole))

    def within(self, step: int, steps: int, part: tuple[str, int, int]) -> None:
        self._tell(lambda each: each.within(step, steps, part))

    def numbers(self, step: int, numbers: Mapping[str, float | None]) -> None:
        self._tell(lambda each: each.numbers(step, numbers))

    def message(self, text: str, *, warning: bool = False) -> None:
        self._tell(lambda each: each.message(text, warning=warning))

    def ended(self, text: str, *, early: bool) -> None:
        self._tell(lambda each: each.ended(text, early=early))

    def close(self) -> None:
        self._tell(lambda each: each.close())

    def _tell(self, event: Callable[[Reporter], None]) -> None:
        for each in self._reporters:
            try:
                event(each)
            except Exception as error:  # whatever a library or a listener raises
                if each not in self._failed:
                    self._failed.append(each)
                    logger.warning(
                        f"Pave-GRPO {type(each).__name__} cannot report ({in_words(error)}): the run goes on without it"
                    )


class MetricsFile(Reporter):
    """metrics.jsonl: one JSON object per step, with null for numbers that are not finite.

    history: the records of earlier sessions, which the file holds. A file that has gone, or was not written whole, is
    written anew with the next step.
    """

    def __init__(self, file: Path, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self._file = file
        self._records = list(history)
        self._whole = True

    def step(self, metrics: StepMetrics, steps: int) -> None:
        self._records.append(finite(metrics.to_dict()))
        whole, self._whole = self._whole and (len(self._records) == 1 or self._file.exists()), False
        if whole:
            append_records(self._file, self._records[-1:])
        else:
            write_atomically(self._file, records_text(self._records).encode())
        self._whole = True


class TensorBoard(Reporter):
    """TensorBoard events in a run's folder. TensorBoard is imported with the first event."""

    SCALARS = ("loss", "reward_mean", "reward_std", "anchor_reward", "grad_norm", "learning_rate", "zero_spread_groups")

    def __init__(self, folder: Path, done: int = 0) -> None:
        self._folder = folder
        self._done = done  # steps whose events are there already; later ones of an earlier session are dropped
        self._writer: Any = None

    def step(self, metrics: StepMetrics, steps: int) -> None:
        record = finite(metrics.to_dict())
        scalars = {key: record[key] for key in self.SCALARS}
        for name, (mean, spread) in record["rewards"].items():
            scalars |= {f"reward/{name}": mean, f"spread/{name}": spread}
        self.numbers(metrics.step, scalars)
        self._done = metrics.step

    def numbers(self, step: int, numbers: Mapping[str, float | None]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._done + 1)
        for name, value in numbers.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class LogLines(Reporter):
    """The log: one line per step, the messages, and progress, every SECONDS."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._said = time.monotonic()

    def progress(self, what: str, done: int, whole: int) -> None:
        if time.monotonic() - self._said >= self.SECONDS:
            self._said = time.monotonic()
            logger.info(f"Pave-GRPO {how_far(what, done, whole)}")

    def within(self, step: int, steps: int, part: tuple[str, int, int]) -> None:
        self.progress(f"step {step}/{steps} | {part[0]}", *part[1:])

    def step(self, metrics: StepMetrics, steps: int) -> None:
        seconds = sum(metrics.seconds.values())
        skipped = " | not finite, skipped" if metrics.skipped else ""
        idle, groups = metrics.zero_spread_groups, metrics.groups
        flat = f" | {idle} of {groups} groups without spread" if idle else ""
        unscored = f" | {metrics.unscored} images not scored" if metrics.unscored else ""
        logger.info(
            f"Pave-GRPO step {metrics.step}/{steps} | reward {metrics.reward_mean:.4f} (spread "
            f"{metrics.reward_std:.4f}) | loss {metrics.loss:+.2e} | gradient {metrics.grad_norm:.3g} | "
            f"{seconds:.2f} s{flat}{unscored}{skipped}"
        )

    def message(self, text: str, *, warning: bool = False) -> None:
        logger.log(logging.WARNING if warning else logging.INFO, f"Pave-GRPO {text}")
