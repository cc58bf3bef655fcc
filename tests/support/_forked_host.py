"""A real ComfyUI whose prompts run in processes of their own, which can be killed: one start, many deaths.

The program at the end of this file starts the host on the CPU with the pack and the faults of _faults.py, and forks for
each prompt. The child runs the graph in the host's own executor, in an output folder of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from _faults import Faults

PATIENCE = 240.0  # seconds for one prompt


@dataclass(frozen=True)
class End:
    """How a prompt ended."""

    killed: bool
    message: str  # of the error; empty without one
    kind: str  # its type; "interrupted" after Cancel
    shown: dict[str, Any]  # {node: what it shows}
    log: str
    faults: list[str]  # what struck
    events: list[str]
    seconds: float

    @property
    def done(self) -> bool:
        return not self.killed and not self.kind


class ForkedHost:
    """The program, up. run() is one prompt."""

    def __init__(self, comfyui: Path, base: Path, root: Path):
        self.base = base
        self.log = base / "host.log"
        command = [sys.executable, __file__, str(comfyui), str(base), str(root)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready == "ready\n", self.log.read_text("utf-8")[-3000:]

    def run(
        self,
        output: Path,
        graph: dict[str, Any],
        *rules: dict[str, Any],
        show: str,
        kill_after: float | None = None,
        temp: Path | None = None,
    ) -> End:
        """Run `graph` up to the node `show` with `output` as the output folder, under the faults of `rules`.

        kill_after: seconds after which the process is killed; temp: the system's folder for temporary files.
        """
        output.mkdir(parents=True, exist_ok=True)
        faults = Faults(output.parent / f"{output.name}.faults")
        faults.forget()
        faults.set(*rules)
        files = {"log": f"{output}.log", "result": f"{output}.result"}
        order = {"output": str(output), "graph": graph, "show": show, "plan": str(faults.file), **files}
        order |= {"kill_after": kill_after, "temp": None if temp is None else str(temp)}
        Path(files["result"]).unlink(missing_ok=True)
        began = time.monotonic()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        result = Path(files["result"])
        said = json.loads(result.read_text("utf-8")) if result.exists() else {}
        log = Path(files["log"]).read_text("utf-8", errors="replace")
        assert os.WIFSIGNALED(status) or said, f"no result, status {status}: {log[-3000:]}"
        return End(
            killed=os.WIFSIGNALED(status),
            message=said.get("message", ""),
            kind=said.get("kind", ""),
            shown=said.get("shown", {}),
            log=log,
            faults=faults.struck(),
            events=faults.events(),
            seconds=time.monotonic() - began,
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def forked_host(comfyui: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedHost]:
    """A forked host of this module's tests. Needs a system that forks."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    host = ForkedHost(comfyui, tmp_path_factory.mktemp("forked"), root)
    yield host
    host.close()


def _start(comfyui: str, base: Path, root: str) -> Any:
    """The host with the pack: its module `execution`, and its server."""
    import asyncio
    import importlib

    sys.path.insert(0, comfyui)
    args = importlib.import_module("comfy.cli_args").args
    args.cpu, args.base_directory = True, str(base)
    folder_paths = importlib.import_module("folder_paths")
    for folder in ("input", "output/loras", "temp", "user", "models/loras", "models/vae", "models/diffusion_models"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    importlib.import_module("utils.install_util")
    nodes = importlib.import_module("nodes")
    server = importlib.import_module("server").PromptServer(asyncio.new_event_loop())
    import torch

    torch.set_num_threads(1)
    asyncio.run(nodes.init_builtin_extra_nodes())
    assert asyncio.run(nodes.load_custom_node(root)), "the host could not load the pack"
    return importlib.import_module("execution"), server, folder_paths


def _run(execution: Any, server: Any, folder_paths: Any, order: dict[str, Any]) -> None:
    """One prompt, in the child."""
    import logging
    import signal
    import tempfile
    import threading
    import uuid

    import _faults

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for handler in list(logging.getLogger().handlers):
        logging.getLogger().removeHandler(handler)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=os.fdopen(2, "w"), force=True)
    folder_paths.set_output_directory(order["output"])
    folder_paths.add_model_folder_path("loras", str(Path(order["output"]) / "loras"))
    if order["temp"] is not None:
        tempfile.tempdir = order["temp"]
    _faults.install(Path(order["plan"]), Path(order["output"]))
    if order["kill_after"] is not None:
        threading.Timer(order["kill_after"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    cache = {"lru": 0, "ram": 16.0, "ram_inactive": 16.0}
    made = execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC, cache_args=cache)
    made.execute(order["graph"], uuid.uuid4().hex, {}, [order["show"]])
    said: dict[str, Any] = {"shown": made.history_result["outputs"]}
    kind, data = made.status_messages[-1]
    if kind == "execution_interrupted":
        said |= {"kind": "interrupted"}
    elif not made.success:
        said |= {"kind": data["exception_type"], "message": data["exception_message"].strip()}
    Path(order["result"]).write_text(json.dumps(said, default=str), "utf-8")


def _serve(comfyui: str, base: str, root: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the host prints goes to the log
    host = _start(comfyui, Path(base), root)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _run(*host, json.loads(line))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitpid(child, 0)[1], file=answers, flush=True)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    _serve(*sys.argv[1:])
