"""The parts of the check, each in a program of its own, so that none ends the others; and the report they make.

Standard library only.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _host.client import PromptError
from _host.environment import Environment
from _host.package import ROOT
from _host.server import ServerError, has_accelerator
from _host.throwaway import throwaway_server
from _workflows.names import api_file_of

from .plans import FULL, MINIATURE, Part
from .targets import verdicts

MINIATURE_TRAINING = {
    **{"prompts_per_step": 1, "steps": 4, "branch_steps": "0", "group_size": 2},
    **{"evaluation_seeds": 2, "check_reward": False},
}
"""Inputs of the quickstart's PaveTrain in miniature."""
GRACE = 20.0
"""Seconds after its time that a program is ended: it may be within a plan."""


class Report:
    """All that was found, and the file that always holds it."""

    def __init__(self, file: Path, minutes: float) -> None:
        self.found: dict[str, Any] = {"minutes": minutes, "host": {}, "parts": {}, "plans": [], "targets": []}
        self._file = file
        self._started = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Of the time that the check may take."""
        return 60 * self.found["minutes"] - (time.monotonic() - self._started)

    def add(self, record: dict[str, Any]) -> None:
        """Take in a record (see child), say it on a line, and write the file."""
        kind = record.pop("record")
        if kind == "host":
            self.found["host"] |= record
        elif kind == "plan":
            self.found["plans"].append(record)
            print(f"    {record['part']}, {record['plan']}: {said(record)}", flush=True)
        else:
            name = record.pop("part")
            self.found["parts"][name] = record
            print(f"{name}: {said(record)}   [{record.get('seconds', 0):.0f} s]", flush=True)
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        self.found["seconds"] = time.monotonic() - self._started
        self.found["targets"] = verdicts(self.found)
        part = self._file.with_name(self._file.name + ".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        part.replace(self._file)


def said(record: dict[str, Any]) -> str:
    """The status of a record, with its reason if it has one."""
    where = f" in {record['phase']}" if "phase" in record else ""
    return record["status"] + where + (f": {record['reason']}" if "reason" in record else "")


def run_parts(environment: Environment, parts: Sequence[Part], report: Report, log: Path) -> None:
    """Run the parts one after the other, as long as there is time. log: what the programs print."""
    cpu = not has_accelerator(environment.python)
    log.write_bytes(b"")
    # In miniature the start of a program would take longer than what it measures.
    measured = [part for part in parts if part.name != "quickstart"]
    together = [measured] if cpu and measured else [[part] for part in measured]
    for group in [[part] for part in parts if part.name == "quickstart"] + together:
        print("\n".join(f"{part.name}: {part.title} ..." for part in group), flush=True)
        if not cpu and report.seconds_left < group[0].seconds:
            reason = f"{report.seconds_left:.0f} s of the time were left"
            report.add({"record": "part", "part": group[0].name, "status": "skipped", "reason": reason})
        elif group[0].name == "quickstart":
            report.add(quickstart(environment, report.seconds_left, log, miniature=cpu))
        else:
            for record in measured_in_child(environment, group, report.seconds_left, log, cpu=cpu):
                report.add(record)


def measured_in_child(
    environment: Environment, parts: Sequence[Part], seconds: float, log: Path, *, cpu: bool
) -> Iterator[dict[str, Any]]:
    """The records of a program that measures the parts; a part that it does not come to the end of has failed."""
    job = {"comfyui": str(environment.comfyui), "names": [part.name for part in parts], "cpu": cpu, "seconds": seconds}
    script = ROOT / "tools" / "cuda_check.py"
    command = [str(environment.python), str(script), "--measure", json.dumps(job)]
    missing = {part.name for part in parts}
    started = time.monotonic()
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8")
    killer = threading.Timer(seconds + GRACE, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            record = json.loads(line)
            if record["record"] == "part":
                missing.discard(record["part"])
            yield record
    finally:
        killer.cancel()
        process.kill()
        code = process.wait()
    for name in sorted(missing):
        late = time.monotonic() - started > seconds
        reason = "ended, as it had no time left" if late else f"ended with exit code {code}: see {log.name}"
        yield {"record": "part", "part": name, "status": "skipped" if late else "failed", "reason": reason}


def quickstart(environment: Environment, seconds: float, log: Path, *, miniature: bool) -> dict[str, Any]:
    """The record of the quickstart's graph through a real server."""
    steps = (MINIATURE if miniature else FULL).quickstart_steps
    started = time.monotonic()
    record: dict[str, Any] = {"record": "part", "part": "quickstart"}
    prompt = json.loads(api_file_of("quickstart").read_text(encoding="utf-8"))
    inputs = {node["class_type"]: node["inputs"] for node in prompt.values()}
    inputs["PaveTrain"] |= {"iterations": steps}
    if miniature:
        inputs["PaveTrain"] |= MINIATURE_TRAINING
        inputs["PavePrompts"]["text"] = "\n".join(inputs["PavePrompts"]["text"].splitlines()[:5])
    with tempfile.TemporaryDirectory() as front_end:
        # No page is opened, and a machine without a network may lack the front end.
        (Path(front_end) / "index.html").write_text("", encoding="utf-8")
        options = ("--disable-api-nodes", "--front-end-root", front_end)
        try:
            with throwaway_server(environment, options) as server:
                try:
                    record["start_seconds"] = time.monotonic() - started
                    with server.client() as client:
                        client.run(prompt, timeout=max(1.0, seconds - record["start_seconds"]))
                    record |= trained(server.output) | {"status": "passed"}
                finally:
                    with log.open("ab") as file:
                        file.write(server.log.read_bytes())
        except (ServerError, PromptError, TimeoutError, ConnectionError) as error:
            with log.open("a", encoding="utf-8") as file:
                print(error, file=file)
            record |= {"status": "failed", "reason": _short(error)}
    return record | {"seconds": time.monotonic() - started}


def _short(error: Exception) -> str:
    """The first line of a message, and its last but for where the log is: a server's own error."""
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("The whole log")]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else type(error).__name__


def trained(output: Path) -> dict[str, Any]:
    """What the run below `output` says of itself: rewards, and the seconds of its phases."""
    (folder,) = (output / "pave").iterdir()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    phases = {name: sum(each.get(name, 0.0) for each in seconds) for name in seconds[0]}
    kept = ("reward_before", "reward_after", "reward_se", "steps", "train_seconds")
    return {name: summary[name] for name in kept} | {"phases": phases}
