"""Seconds and peak memory of the phases of a training step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Meter:
    """What it measures is in `phases`: {phase: {"seconds", "allocated_gb", "reserved_gb", "resident_gb"}}.

    The seconds are those of the last time, the peaks the largest of all. Without CUDA there is no memory to measure.
    resident() -> {part: GB on the device}, asked after each phase.
    """

    def __init__(self, device: torch.device, resident: Callable[[], dict[str, float]]) -> None:
        self._device, self._resident = device, resident
        self.cuda = device.type == "cuda"
        self.phases: dict[str, dict[str, Any]] = {}
        self.current = "the beginning"  # or the phase under way, or the last

    @contextmanager
    def phase(self, name: str, *, fresh: bool) -> Iterator[None]:
        """Measure what is done inside. fresh: with no cached memory at first, so that reserved_gb is this phase's."""
        self.current = name
        if self.cuda:
            self._begin(fresh)
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.cuda:
                torch.cuda.synchronize(self._device)
            self._note(name, time.perf_counter() - start, fresh)

    def _begin(self, fresh: bool) -> None:
        torch.cuda.synchronize(self._device)
        if fresh:
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def _note(self, name: str, seconds: float, fresh: bool) -> None:
        entry = self.phases.setdefault(name, {"allocated_gb": None, "reserved_gb": None})
        entry["seconds"] = seconds
        if self.cuda:
            entry["allocated_gb"] = max(
                entry["allocated_gb"] or 0, torch.cuda.max_memory_allocated(self._device) / 2**30
            )
            if fresh:
                reserved = torch.cuda.max_memory_reserved(self._device) / 2**30
                entry["reserved_gb"] = max(entry["reserved_gb"] or 0, reserved)
        entry["resident_gb"] = self._resident()

    def seconds(self, function: Callable[[], object], repeat: int = 3) -> float:
        """The least seconds of `repeat` calls, after one that does not count."""
        function()
        taken = []
        for _ in range(repeat):
            self._wait()
            start = time.perf_counter()
            function()
            self._wait()
            taken.append(time.perf_counter() - start)
        return min(taken)

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self._device)
