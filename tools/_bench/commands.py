"""What the commands of tools/bench.py do, under a Python that has torch."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _host.server import has_accelerator

from .campaign import base_config
from .experiments import RELEASED_STEPS
from .machine import described, machine

RELEASED = RELEASED_STEPS | {"rollout.group_size": 12}
"""The released code's rollout, as in the preset "fast", whose tails are in question."""
SCALED = {"run.prompts_per_step": 1, "rollout.steps": 8, "rollout.branch_steps": (0, 2, 4)}
"""What scaling begins with, besides the subject's own settings."""


def speed(args: argparse.Namespace) -> int:
    """A training step by phase."""
    with _measuring(args) as (about, found):
        from .speed import measured, table

        record = measured(found, found.config, pairs=args.pairs)
        print(f"\n{table(record)}")
        save(args.json, {**about, **record})
    return 0


def scaling(args: argparse.Namespace) -> int:
    """How the cost grows."""
    args.settings = [*SCALED.items(), *args.settings]
    with _measuring(args) as (about, found):
        from .plots import plot_scaling
        from .scaling import measured_points

        points = measured_points(found, only=args.only, most=args.most, pairs=args.pairs)
        record = {**about, "points": _printed(points)}
        save(args.json, record)
        plot_scaling(record, args.plot)
    return 0


def tails(args: argparse.Namespace) -> int:
    """How cheaper tails rank."""
    args.settings = [*RELEASED.items(), *args.settings]
    with _measuring(args) as (about, found):
        from .ranks import measured_ranks

        save(args.json, {**about, "ranks": _printed(measured_ranks(found, prompts=args.prompts))})
    return 0


def gradients(args: argparse.Namespace) -> int:
    """How alike the gradients of plain steps and chains are."""
    with _measuring(args) as (about, found):
        from .alignment import measured_alignments

        save(args.json, {**about, "alignments": _printed(measured_alignments(found, prompts=args.prompts))})
    return 0


def person(args: argparse.Namespace) -> int:
    """What clicks teach."""
    with _measuring(args) as (about, found):
        from .person import SETTINGS, measured_runs
        from .settings import replaced

        settings = dict(args.settings)
        about["config"] = replaced(base_config(), SETTINGS | settings).to_dict()
        save(args.json, {**about, "runs": _printed(measured_runs(found, settings, args.seeds))})
    return 0


def processes(args: argparse.Namespace) -> int:
    """What two processes cost."""
    from .machine import cpu_name
    from .processes import measured_rounds, table

    rounds: list[dict[str, dict[str, float]]] = []
    for each in measured_rounds(args.inside, args.rounds):
        rounds.append(each)
        print(", ".join(f"{kind} {seconds['step']:.3f} s" for kind, seconds in each.items()), flush=True)
        save(args.json, {"command": args.command, "machine": {"device": cpu_name()}, "rounds": rounds})
    print(f"\n{cpu_name()}, one thread a process\n\n{table(rounds)}")
    return 0


def learning(args: argparse.Namespace) -> int:
    """The experiments."""
    from .campaign import Campaign

    return Campaign(args).run()


def report(args: argparse.Namespace) -> int:
    """The tables and plots."""
    from .report import write

    write(args.docs, learning=[args.json, *args.more], folder=args.json.parent)
    return 0


@contextmanager
def _measuring(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any]]:
    """(what a record says of itself, the Subject), with the host started in this process.

    SystemExit for a setting that there is not.
    """
    from _cuda import host

    with tempfile.TemporaryDirectory() as base:
        host.start(args.inside, Path(base), cpu=args.cpu or not has_accelerator(Path(sys.executable)))
        from .subject import subject

        try:
            found = subject(args.model, dict(args.settings))
        except ValueError as error:  # the pack's ConfigError is one too
            sys.exit(str(error))
        on = machine()
        print(f"{described(on)}, {found.name}: {_shown(found.config)}", flush=True)
        about = {"command": args.command, "machine": on, "model": found.name, "pixels": found.pixels}
        yield {**about, "config": found.config.to_dict()}, found


def _printed(measured: Iterable[Any]) -> list[dict[str, Any]]:
    """The fields of what is measured, each of which is printed as it comes."""
    records = []
    for each in measured:
        records.append(vars(each))
        print(each.line(), flush=True)
    return records


def _shown(config: Any) -> str:
    rollout = config.rollout
    return (
        f"T {rollout.steps}, K {list(rollout.branch_steps)}, G {rollout.group_size}, S {list(config.pave.segments)}, "
        f"{config.run.prompts_per_step} prompts, batch {rollout.batch_size}"
    )


def save(file: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(file)
