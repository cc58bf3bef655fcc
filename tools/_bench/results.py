"""The records of learning's runs: a file of JSON lines, to which each finished run is added, and what they say.

A record counts for the settings that it was made with (its digest): those of an earlier table of experiments do not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .experiments import (
    EQUAL_RATE,
    FINALISTS,
    LEARNING_RATES,
    SEARCH_SEEDS,
    Experiment,
    compared_at_equal_rate,
)
from .jobs import Job
from .statistics import Interval, interpolated, interval, paired

Record = Mapping[str, Any]
IMAGES, SECONDS = 1, 2
"""Columns of a curve, whose points are (steps, images, seconds, scores)."""


def load(files: Iterable[Path]) -> list[Record]:
    """The records of all files that exist. A last line that was cut off is left out."""
    records = []
    for file in files:
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else [""]
        records += [json.loads(line) for line in lines[:-1]]  # a whole line ends in a newline
    return records


def append(file: Path, record: Record) -> None:
    """Add a record to the file."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if text and not text.endswith("\n"):  # a line that was cut off
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(record) + "\n")


class Results:
    """What the records say of experiments as they are now."""

    def __init__(self, records: Iterable[Record], base: Any, scale: float = 1.0) -> None:
        self._base, self._scale = base, scale
        self._records: dict[tuple[str, str, Job], Record] = {}
        for record in records:
            job = Job(**{name: record[name] for name in Job.__dataclass_fields__})
            self._records[job.experiment, record["digest"], job] = record

    def of(self, experiment: Experiment, job: Job) -> Record | None:
        """The record of a job, if it has been run."""
        return self._records.get((experiment.name, experiment.digest(self._base, self._scale), job))

    def rates(self, experiment: Experiment) -> list[float]:
        """The learning rates of the runs that count; none until the search is complete."""
        found = self.learning_rate(experiment)
        if found is None:
            return []
        return [found, EQUAL_RATE] if compared_at_equal_rate(experiment) and found != EQUAL_RATE else [found]

    def search(self, experiment: Experiment) -> list[Job]:
        """The jobs that find its learning rate, as far as they are known: those of the finalists follow the others."""
        first, *others = SEARCH_SEEDS
        jobs = [Job(experiment.name, first, rate, search=True) for rate in LEARNING_RATES]
        found = {job.learning_rate: self._reward(experiment, job) for job in jobs}
        rewards = {rate: reward for rate, reward in found.items() if reward is not None}
        if len(rewards) < len(jobs):
            return jobs
        best = sorted(LEARNING_RATES, key=lambda rate: rewards[rate], reverse=True)[:FINALISTS]
        return jobs + [Job(experiment.name, seed, rate, search=True) for seed in others for rate in sorted(best)]

    def _reward(self, experiment: Experiment, job: Job) -> float | None:
        """The reward at the end of a run: None if it has not been run, minus infinity if it failed."""
        record = self.of(experiment, job)
        if record is None:
            return None
        return float("-inf") if "failed" in record else record["after"]["reward"]

    def learning_rate(self, experiment: Experiment) -> float | None:
        """The finalist whose worst run has the highest reward; None until the search is complete, or if all failed."""
        rewards: dict[float, list[float]] = defaultdict(list)
        for job in self.search(experiment):
            reward = self._reward(experiment, job)
            if reward is None:
                return None
            rewards[job.learning_rate].append(reward)
        worst = {rate: min(found) for rate, found in rewards.items() if len(found) == len(SEARCH_SEEDS)}
        best = max(worst, key=lambda rate: worst[rate], default=None)
        return None if best is None or worst[best] == float("-inf") else best

    def runs(self, experiment: Experiment, rate: float | None = None) -> dict[int, Record]:
        """{seed: its run} of the runs that count and did not fail, at a learning rate; None: the chosen one."""
        rate = rate or self.learning_rate(experiment)
        digest = experiment.digest(self._base, self._scale)
        return {
            job.seed: record
            for (name, made_with, job), record in self._records.items()
            if (name, made_with, job.learning_rate, job.search) == (experiment.name, digest, rate, False)
            and "failed" not in record
        }


def after(runs: Mapping[int, Record], score: str) -> dict[int, float]:
    """{seed: the mean score at the end}."""
    return {seed: record["after"][score] for seed, record in runs.items()}


def gains(runs: Mapping[int, Record], score: str) -> list[float]:
    """What the runs have gained over the base model."""
    return [record["after"][score] - record["before"][score] for record in runs.values()]


def at_equal_images(runs: Mapping[int, Record], baseline: Mapping[int, Record], score: str) -> Interval | None:
    """The paired difference of the scores at the end: both have learnt from the same number of images."""
    return paired(after(runs, score), after(baseline, score))


def at_equal_seconds(runs: Mapping[int, Record], baseline: Mapping[int, Record], score: str) -> Interval | None:
    """The paired difference where the faster of the two runs ended, along the slower one's curve.

    Of pairs from one machine; scores are those that are measured along the way.
    """
    differences = []
    for pair in on_one_machine(runs, baseline):
        end = min(record["seconds"] for record in pair)
        own, other = (along(record, SECONDS, score, end) for record in pair)
        differences.append(own - other)
    return interval(differences) if differences else None


def seconds_ratio(runs: Mapping[int, Record], baseline: Mapping[int, Record]) -> Interval | None:
    """The seconds of training by those of the baseline, over pairs from one machine."""
    ratios = [own["seconds"] / other["seconds"] for own, other in on_one_machine(runs, baseline)]
    return interval(ratios) if ratios else None


def on_one_machine(runs: Mapping[int, Record], baseline: Mapping[int, Record]) -> list[tuple[Record, Record]]:
    """The pairs of equal seeds that ran on the same kind of machine, whose seconds can be compared."""
    pairs = [(runs[seed], baseline[seed]) for seed in sorted(runs.keys() & baseline.keys())]
    return [(own, other) for own, other in pairs if own["machine"]["device"] == other["machine"]["device"]]


def along(record: Record, column: int, score: str, place: float) -> float:
    """The score along a run's curve where a column of it (IMAGES or SECONDS) is at `place`."""
    points: Sequence[Any] = record["curve"]
    return interpolated(place, [point[column] for point in points], [point[3][score] for point in points])
