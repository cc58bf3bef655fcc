"""What the commands of tools/bench.py do, under a Python that has torch."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _host.server import has_accelerator

from .machine import described, machine
from .settings import SettingError


def speed(args: argparse.Namespace) -> int:
    """A training step by phase."""
    with tempfile.TemporaryDirectory() as base:
        about = _start(args, Path(base))
        from .speed import measured, table
        from .subject import subject

        try:
            found = subject(args.model, dict(args.settings))
        except SettingError as error:
            print(error, file=sys.stderr)
            return 2
        record = measured(found, found.config, pairs=args.pairs)
        print(f"{described(about)}, {found.name}: {_shown(found.config)}\n\n{table(record)}")
        save(args.json, {"command": "speed", **_about(about, found), **record})
    return 0


def scaling(args: argparse.Namespace) -> int:
    """How the cost grows."""
    with tempfile.TemporaryDirectory() as base:
        about = _start(args, Path(base))
        from .plots import plot_scaling
        from .scaling import measured_points
        from .subject import subject

        found = subject(args.model, dict(args.settings))
        points = []
        print(f"{described(about)}, {found.name}: {_shown(found.config)}")
        for point in measured_points(found, only=args.only, most=args.most, pairs=args.pairs):
            points.append(point)
            print(point.line(), flush=True)
        record = {"command": "scaling", **_about(about, found), "points": [vars(point) for point in points]}
        save(args.json, record)
        plot_scaling(record, args.plot)
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


def _start(args: argparse.Namespace, base: Path) -> dict[str, Any]:
    """Start the host in this process; what it runs on."""
    from _cuda import host

    host.start(args.inside, base, cpu=args.cpu or not has_accelerator(Path(sys.executable)))
    return machine()


def _about(machine: dict[str, Any], subject: Any) -> dict[str, Any]:
    return {"machine": machine, "model": subject.name, "pixels": subject.pixels, "config": subject.config.to_dict()}


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
