"""Faults of the disk and of the process, put into a program that trains: a server, or a forked host.

install() wraps what Python writes and moves files with, and counts each use below one folder as an event:

    open <path>     a file is opened for writing        fsync <path>    its content goes to the disk
    write <path>    content goes into it                replace <path>  a file is moved to this place
    mkdir <path>    a folder is made                    unlink <path>   a file is removed

and enters the phases of a run as `phase <name>` (see PHASES). Every event is a line of <plan>.log. What happens at one
is told by the plan, a JSON file that is read at each event, so that a test can change it while the program runs:

    [{"match": regex on the event, "skip": how many to let pass, "times": how many to strike (None: all),
      "do": an errno's name, "kill", "hold" or "vanish", "when": "before", "half" or "after"}]

"hold" waits until the plan is changed. "vanish" removes the run's folder, and "rename" renames it.
The plan's path is in PAVE_FAULTS, the watched folder in PAVE_FAULTS_BELOW.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

PHASES = {
    "encoding": ("nodes.host.policy.native", "NativePolicy", "encode"),
    "gradient check": ("nodes.host.policy.native", "NativePolicy", "check_gradient"),
    "reward check": ("pave_core.runs.begin", None, "check_reward"),
    "evaluation": ("pave_core.runs.begin", None, "evaluate"),
    "rollout": ("pave_core.training.step", "TrainingStep", "sample"),
    "decoding": ("pave_core.training.step", "TrainingStep", "decode"),
    "update": ("pave_core.training.step", "TrainingStep", "accumulate"),
    "optimizer": ("pave_core.training.step", "TrainingStep", "update"),
    "scoring": ("pave_core.scoring.mix", "RewardMix", "score"),
    "guard reading": ("pave_core.runs.watch", "Watch", "check"),
    "curve": ("pave_core.runs.run", None, "reward_curve"),
    "grid": ("pave_core.runs.run", None, "before_after_grid"),
}
"""Where each phase of a run begins: (module, class or None, function)."""
_open, _os_open, _replace, _rename, _fsync, _mkdir, _unlink = (
    io.open, os.open, os.replace, os.rename, os.fsync, os.mkdir, os.unlink
)  # fmt: skip


class Plan:
    """The faults of one program, and its log."""

    def __init__(self, plan: Path, below: Path):
        self.file, self.below = plan, below.resolve()
        self._log = _os_open(f"{plan}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.RLock()
        self._seen: dict[str, int] = {}  # how often each rule of the plan as it is now has matched
        self._text = ""

    def rules(self) -> list[dict[str, Any]]:
        try:
            with _open(self.file, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            text = "[]"
        if text != self._text:
            self._text, self._seen = text, {}
        return json.loads(text or "[]")

    def say(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode("utf-8", "backslashreplace"))

    def name(self, path: Any) -> str | None:
        """`path` below the watched folder; None if it is elsewhere, or an open file's number."""
        if isinstance(path, int):
            return None
        plain = Path(os.fsdecode(path)).absolute()
        full = plain.parent.resolve() / plain.name  # a link itself is not followed
        return full.relative_to(self.below).as_posix() if self.below in full.parents else None

    def strike(self, event: str) -> dict[str, Any] | None:
        """The rule that strikes at this event, if one does. The event is logged."""
        with self._lock:
            self.say(event)
            for number, rule in enumerate(self.rules()):
                if re.search(rule["match"], event):
                    key = f"{number}"
                    seen = self._seen[key] = self._seen.get(key, 0) + 1
                    skip, times = rule.get("skip", 0), rule.get("times", 1)
                    if seen > skip and (times is None or seen <= skip + times):
                        self.say(f"  {rule['do']} {rule.get('when', 'before')}")
                        return rule
        return None

    def do(self, rule: dict[str, Any], event: str) -> None:
        """Let the fault happen."""
        what = rule["do"]
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        elif what == "hold":
            before = self._text
            while self.rules() is not None and self._text == before:
                time.sleep(0.01)
            self.say("  released")
        elif what in ("vanish", "rename"):
            for run in sorted((self.below / "pave").glob(rule.get("run", "*"))):
                (_removed if what == "vanish" else _moved_away)(run)
        else:
            number = getattr(errno, what)
            raise OSError(number, os.strerror(number), event.split(" ", 1)[1])

    def around(self, event: str, act: Any, half: Any = None) -> Any:
        """The result of act(), with what the plan says before or after it, or after half() in its place."""
        rule = self.strike(event)
        when = "after" if rule is None else rule.get("when", "before")
        if rule is not None and when == "before":
            self.do(rule, event)
        if rule is not None and when == "half":
            if half is not None:
                half()
            self.do(rule, event)
        result = act()
        if rule is not None and when == "after":
            self.do(rule, event)
        return result


def _removed(folder: Path) -> None:
    """Remove a folder, into which another thread (TensorBoard's) may write meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def _moved_away(folder: Path) -> None:
    _rename(folder, f"{folder}.moved")


class _File:
    """A file that is open for writing: its writes are events."""

    def __init__(self, file: Any, plan: Plan, name: str):
        self.__dict__.update(_file=file, _plan=plan, _name=name)

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        def whole() -> Any:
            written = self._file.write(data)
            self._file.flush()
            return written

        return self._plan.around(f"write {self._name}", whole, half)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._file, name, value)

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:
        return self._file.__exit__(*exc)

    def __iter__(self) -> Any:
        return iter(self._file)


def install(plan: Path, below: Path) -> Plan:
    """Wrap the functions that write and move files, for paths below `below`. For the rest of this process."""
    made = Plan(plan, below)

    def opened(file, mode="r", *more, **other):
        name = made.name(file)
        if name is None or not set(mode) & set("wax+"):
            return _open(file, mode, *more, **other)
        return _File(made.around(f"open {name}", lambda: _open(file, mode, *more, **other)), made, name)

    def os_opened(path, flags, *more, **other):
        name = made.name(path)
        if name is None or not flags & (os.O_WRONLY | os.O_RDWR):
            return _os_open(path, flags, *more, **other)
        return made.around(f"open {name}", lambda: _os_open(path, flags, *more, **other))

    def moved(real):
        def move(source, target, **other):
            name = made.name(target)
            if name is None:
                return real(source, target, **other)
            return made.around(f"replace {name}", lambda: real(source, target, **other))

        return move

    def of_path(kind, real):
        def act(path, *more, **other):
            name = None if other.get("dir_fd") is not None else made.name(path)
            there = os.path.lexists(path)  # then a system says so, whatever else is wrong
            if name is None or there is (kind == "mkdir"):
                return real(path, *more, **other)
            return made.around(f"{kind} {name}", lambda: real(path, *more, **other))

        return act

    def synced(number):
        number = number if isinstance(number, int) else number.fileno()
        try:
            name = made.name(Path(f"/proc/self/fd/{number}").readlink())
        except OSError:  # another system than Linux
            name = None
        return _fsync(number) if name is None else made.around(f"fsync {name}", lambda: _fsync(number))

    io.open = builtins.open = opened
    os.open, os.fsync = os_opened, synced
    os.replace, os.rename = moved(_replace), moved(_rename)
    os.mkdir, os.unlink, os.remove = of_path("mkdir", _mkdir), of_path("unlink", _unlink), of_path("unlink", _unlink)
    _enter_phases_at_the_first_prompt(made)
    return made


def _enter_phases_at_the_first_prompt(plan: Plan) -> None:
    """Make the beginning of each phase an event. The pack may be loaded after this module."""
    import execution

    real = execution.PromptExecutor.execute

    @functools.wraps(real)
    def execute(self, *arguments, **named):
        execution.PromptExecutor.execute = real
        for phase, (module, owner, function) in PHASES.items():
            found = [each for name, each in sys.modules.items() if name.endswith(f".{module}")]
            for each in found:
                place = each if owner is None else getattr(each, owner)
                setattr(place, function, _entering(plan, phase, getattr(place, function)))
        return real(self, *arguments, **named)

    execution.PromptExecutor.execute = execute


def _entering(plan: Plan, phase: str, real: Any) -> Any:
    @functools.wraps(real)
    def function(*arguments, **named):
        return plan.around(f"phase {phase}", lambda: real(*arguments, **named))

    return function


PACK = """
import os, sys
from pathlib import Path

sys.path.append({support!r})
import _faults

_faults.install(Path(os.environ["PAVE_FAULTS"]), Path(os.environ["PAVE_FAULTS_BELOW"]))
NODE_CLASS_MAPPINGS = {{}}
"""


def write_pack(custom_nodes: Path) -> None:
    """The injector as a node pack of the host's."""
    folder = custom_nodes / "faults"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACK.format(support=str(Path(__file__).parent)), "utf-8")


class Faults:
    """The test's side of a plan."""

    def __init__(self, file: Path):
        self.file = file
        self.set()

    def set(self, *rules: dict[str, Any]) -> None:
        """Put these rules in the place of those there are; what is held goes on."""
        part = self.file.with_name(self.file.name + ".new")
        part.write_text(json.dumps(rules), "utf-8")
        part.replace(self.file)

    def lines(self) -> list[str]:
        log = Path(f"{self.file}.log")
        return log.read_text("utf-8").splitlines() if log.exists() else []

    def events(self) -> list[str]:
        """What was done so far, without the faults."""
        return [line for line in self.lines() if not line.startswith(" ")]

    def struck(self) -> list[str]:
        """The faults that have happened: "<event>: <fault> <when>"."""
        lines = self.lines()
        return [
            f"{event}: {fault.strip()}"
            for event, fault in zip(lines, lines[1:])
            if fault.startswith("  ") and fault != "  released"
        ]

    def forget(self) -> None:
        """Empty the log."""
        log = Path(f"{self.file}.log")
        if log.exists():
            os.truncate(log, 0)
