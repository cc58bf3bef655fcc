"""All runs of the chosen experiments: first those that find the learning rates, then those that count."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _host.package import load_core

from .experiments import Experiment, chosen
from .jobs import Job, Setting, Workers
from .results import Record, Results, append, load


class Campaign:
    """The command `learning` with its arguments."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._started = time.time()

    def run(self) -> int:
        """Run what has not been run yet; the exit code."""
        args = self._args
        try:
            experiments = chosen(args.only)
            left = self._left(experiments)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        if args.list:
            for experiment in experiments:
                print(f"{experiment.name:<44}{left.get(experiment.name, 0):>4} runs left")
            return 0
        args.json.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self._run(experiments, Path(folder))
        left = self._left(experiments)
        print(f"{sum(left.values())} runs left" if left else "all runs are done", flush=True)
        return 0

    def _results(self) -> Results:
        return Results(load([self._args.json]), base_config(), self._args.scale)

    def _jobs(self, experiments: Sequence[Experiment]) -> list[Job]:
        """What can be run now: all of the search, and what counts of experiments whose learning rate is known."""
        results = self._results()
        jobs = [job for each in experiments for job in results.search(each)]
        for seed in range(self._args.seeds):  # seed by seed, so that where time ends all have about as many
            for each in experiments:
                jobs += [Job(each.name, seed, rate) for rate in results.rates(each)]
        named = {each.name: each for each in experiments}
        return [job for job in jobs if results.of(named[job.experiment], job) is None]

    def _left(self, experiments: Sequence[Experiment]) -> dict[str, int]:
        """{experiment: runs that are left}, of those that have any."""
        results, left = self._results(), {}
        for each in experiments:
            open_search = sum(results.of(each, job) is None for job in results.search(each))
            seeds = range(self._args.seeds)
            counting = [Job(each.name, seed, rate) for rate in results.rates(each) for seed in seeds]
            open_runs = sum(results.of(each, job) is None for job in counting)
            left[each.name] = open_search + len(seeds) if open_search else open_runs
        return {name: count for name, count in left.items() if count}

    def _run(self, experiments: Sequence[Experiment], folder: Path) -> None:
        args = self._args
        jobs = self._jobs(experiments)
        if not jobs:
            return
        deadline = None if args.minutes is None else self._started + 60 * args.minutes
        setting = Setting(args.inside, folder, args.json.with_suffix(".log"), deadline, args.scale)
        count = args.workers or available_cores()
        with Workers(count, setting) as workers:
            for search, what in (
                (True, "runs at each learning rate"),
                (True, "runs at the best learning rates"),
                (False, "runs that count"),
            ):
                jobs = [job for job in self._jobs(experiments) if job.search == search]
                print(f"{len(jobs)} {what}, {count} at once", flush=True)
                started = time.time()
                for done, record in enumerate(workers.records(jobs), start=1):
                    append(args.json, record)
                    seconds = (time.time() - started) / done * (len(jobs) - done)
                    print(f"[{done:>4}/{len(jobs)}] {said(record)}, about {seconds / 60:.1f} minutes left", flush=True)


def said(record: Record) -> str:
    """A run in a line."""
    run = f"{record['experiment']}, seed {record['seed']}, learning rate {record['learning_rate']:g}"
    if "failed" in record:
        return f"{run}: failed, {record['failed']}"
    scores = ", ".join(
        f"{name} {record['before'][name]:.4f} -> {record['after'][name]:.4f}" for name in record["after"]
    )
    return f"{run}: {scores}, {record['seconds']:.0f} s of training, {record['whole_seconds']:.0f} s in all"


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def base_config() -> Any:
    """The TrainConfig that experiments change: the defaults, which are the released code's."""
    load_core()
    from pave_core.config.train import TrainConfig

    return TrainConfig()
