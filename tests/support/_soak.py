"""What a server's process uses while a graph runs: memory, descriptors, threads, time and messages."""

import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psutil

MB = 2**20
WINDOW = 5
"""A mark's memory and time are medians over so many steps before it: what a step in flight holds is no growth."""


@dataclass
class Soak:
    """The course of one run: one entry a training step."""

    memory: list[float] = field(default_factory=list)  # MB resident
    seconds: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    sent: int = 0  # bytes of messages to the page
    messages: int = 0
    largest: int = 0  # bytes

    def memory_at(self, step: int) -> float:
        return statistics.median(self.memory[max(0, step - WINDOW) : step])

    def table(self, marks: Iterable[int]) -> str:
        rows = [f"{'step':>6} {'MB':>9} {'s/step':>7} {'files':>6} {'threads':>8}"]
        for step in marks:
            pace = statistics.median(self.seconds[max(0, step - 50) : step])
            rows.append(
                f"{step:6} {self.memory_at(step):9.1f} {pace:7.3f} {self.descriptors[step - 1]:6} "
                f"{self.threads[step - 1]:8}"
            )
        return "\n".join(rows)


def process(server: Any) -> psutil.Process:
    return psutil.Process(server._process.pid)


def soak(server: Any, client: Any, graph: dict[str, Any], timeout: float = 3000) -> Soak:
    """Run `graph` to its end, and look at the server after each training step."""
    course, program, last = Soak(), process(server), time.perf_counter()
    for event in client.events(client.queue(graph), timeout=timeout):
        assert event.kind != "execution_error", event.data
        size = 0 if event.kind == "idle" else len(json.dumps({"type": event.kind, "data": event.data}))
        course.sent += size
        course.messages += 1
        course.largest = max(course.largest, size)
        if event.kind == "pave.step":
            now = time.perf_counter()
            course.memory.append(program.memory_info().rss / MB)
            course.seconds.append(now - last)
            course.descriptors.append(program.num_fds())
            course.threads.append(program.num_threads())
            last = now
    return course
