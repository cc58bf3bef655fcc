"""The graph that began a run is kept in the run's folder, so that the page can open it again."""

from __future__ import annotations

import json
import logging
from typing import Any

from comfy.cli_args import args

from ....pave_core.files import write_atomically
from ....pave_core.runs.log import Reporter
from ....pave_core.runs.shown import MAX_WORKFLOW, WORKFLOW
from ....pave_core.training.metrics import StepMetrics
from .. import folders
from ..graphs import queue

logger = logging.getLogger("pave")


class KeptWorkflow(Reporter):
    """A reporter that writes the graph with the first step, as before it a run may leave nothing behind.

    A resumed run keeps the graph that began it. Nothing is kept of a prompt that came without its graph, or where the
    host is told to keep none (--disable-metadata).
    """

    def __init__(self) -> None:
        self._run: str | None = None
        self._graph: Any = None if args.disable_metadata else queue.workflow()

    def begun(self, run: str) -> None:
        self._run = run

    def step(self, metrics: StepMetrics, steps: int) -> None:
        graph, self._graph = self._graph, None
        if graph is None or self._run is None:
            return
        file = folders.places().runs / self._run / WORKFLOW
        content = json.dumps(graph).encode()
        if len(content) > MAX_WORKFLOW:
            logger.info(f"Pave-GRPO the workflow of {self._run!r} is too large to be kept in its folder")
        elif not file.exists():
            write_atomically(file, content)
