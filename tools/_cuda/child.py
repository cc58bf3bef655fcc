"""The program that measures: ComfyUI in its own process, and one record a line, as JSON, on standard output.

    {"record": "host", ...}     what it runs on
    {"record": "plan", "part": ..., "plan": ..., "status": ..., ...}
    {"record": "part", "part": ..., "status": ..., ...}       at the end of each part

status: one of STATUSES; a plan that did not pass has "reason".
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from . import host
from .plans import FULL, MINIATURE, Part, Plan, parts_named

STATUSES = ("failed", "passed", "out of memory", "skipped")
"""That of a part is the first of these that one of its plans has: a card too small for some plans is no failure."""


def measure(comfyui: Path, names: list[str], *, cpu: bool, seconds: float) -> int:
    """Measure the parts with these names. Plans for which the `seconds` do not suffice are skipped."""
    deadline = time.monotonic() + seconds
    with _standard_output() as out, tempfile.TemporaryDirectory() as base:

        def emit(record: str, **values: Any) -> None:
            print(json.dumps({"record": record, **values}), file=out, flush=True)

        host.start(comfyui, Path(base), cpu=cpu)
        facts = host.facts()
        emit("host", **facts)
        if facts["device_gb"] is None:
            import torch

            torch.set_num_threads(1)  # for tiny models a second thread is one more to wait for
        child = Child(facts, emit, deadline)
        for part in parts_named(names):
            started = time.monotonic()
            emit("part", part=part.name, **child.part(part), seconds=time.monotonic() - started)
    return 0


def _standard_output() -> IO[str]:
    """Standard output for records alone: whatever else is printed goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


class Child:
    """What measures. facts: those of host.facts(); emit(record, **values) tells; deadline: by time.monotonic()."""

    def __init__(self, facts: dict[str, Any], emit: Callable[..., None], deadline: float) -> None:
        self._facts, self._emit, self._deadline = facts, emit, deadline
        self._miniature = facts["device_gb"] is None
        self._scale = MINIATURE if self._miniature else FULL

    def part(self, part: Part) -> dict[str, Any]:
        """The outcome of a part: its status, and what else there is to say of it."""
        found: dict[str, Any] = {}
        outcome = self.outcome(lambda: found.update(self._plans(part) if part.plans else self._sample()))
        return outcome | found

    def _sample(self) -> dict[str, Any]:
        from .sampling import sample_then_train

        return sample_then_train(self._scale)

    def _plans(self, part: Part) -> dict[str, Any]:
        """Measure the plans of a part, each of which is told when it ends."""
        if not self._miniature and self._facts["free_ram_gb"] < part.ram_gb:
            free = self._facts["free_ram_gb"]
            return {"status": "skipped", "reason": f"needs {part.ram_gb:g} GB of system memory; {free:.0f} are free"}
        from .models import build  # only with the host in this process
        from .training import Measurement

        started = time.monotonic()
        models = build(part.model, part.weights, miniature=self._miniature)
        described = models.describe() | {"build_seconds": time.monotonic() - started}
        statuses, reference = [], None
        for plan in part.plans:
            measurement = Measurement(plan, part, models, self._scale, reference)
            reason = self.no_room(plan)
            outcome = {"status": "skipped", "reason": reason} if reason else self.outcome(measurement.run)
            if outcome["status"] not in ("passed", "skipped"):
                outcome["phase"] = measurement.phase
            self._emit("plan", part=part.name, plan=plan.name, **outcome, **measurement.record)
            reference = reference or measurement.gradient
            statuses.append(outcome["status"])
        return described | {"status": next(each for each in STATUSES if each in statuses)}

    def no_room(self, plan: Plan) -> str | None:
        """Why a plan is skipped, if it is."""
        if self._miniature:
            return None
        if plan.needs_gb > self._facts["device_gb"] + 0.5:  # a card of 16 GB reports a little less
            return f"needs a card of {plan.needs_gb:g} GB"
        left = self._deadline - time.monotonic()
        return f"{left:.0f} s of the time were left" if left < plan.seconds else None

    def outcome(self, run: Callable[[], object]) -> dict[str, Any]:
        """The status of run(), with the reason where it did not pass."""
        import torch

        try:
            run()
        except torch.cuda.OutOfMemoryError as error:
            traceback.print_exc()
            return {"status": "out of memory", "reason": _short(error)}
        except Exception as error:
            traceback.print_exc()
            # The pack's own error for it has torch's as its cause.
            out_of_memory = isinstance(error.__cause__, torch.cuda.OutOfMemoryError)
            return {"status": "out of memory" if out_of_memory else "failed", "reason": _short(error)}
        return {"status": "passed"}


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
