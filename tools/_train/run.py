"""A run of a recipe without a graph: the core's run, with a terminal, a log and signals around it."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from _cuda.host import pack_module

from . import models, world
from .recipe import FILE, Recipe
from .rewards import Makers

errors = pack_module("pave_core.errors")
ConfigError = errors.ConfigError
nothing = pack_module("pave_core.batches").nothing
begin = pack_module("pave_core.runs.begin").begin
Task = pack_module("pave_core.runs.settings").Task
RewardMix = pack_module("pave_core.scoring.mix").RewardMix
GuardSettings = pack_module("pave_core.evaluation.guard").GuardSettings
log = pack_module("pave_core.runs.log")
Reporter, how_far = log.Reporter, log.how_far
write_atomically = pack_module("pave_core.files").write_atomically
NO_RESUME: str = pack_module("pave_core.runs.settings").NO_RESUME


class StopRequestedError(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM."""


class Stop:
    """Ctrl-C and SIGTERM as a request that is heard where the state is whole.

    tell: asks the calls under way to raise as soon as they can. A second Ctrl-C on a terminal ends them at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal
        self.tell: Callable[[], None] = nothing

    def listen(self) -> None:
        """Hear the signals from here on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)

    def check(self) -> None:
        """Raise if a signal has come."""
        if self.number is not None:
            raise StopRequestedError(signal.Signals(self.number).name)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.number == number == signal.SIGINT and sys.stdin.isatty():
            raise KeyboardInterrupt
        self.number = self.number or number
        self.tell()


class Bar(Reporter):
    """A progress bar on a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps, self._bar = steps, None

    def step(self, metrics: Any, steps: int) -> None:
        bar = self._shown()
        bar.set_postfix_str(f"reward {metrics.reward_mean:.4f}")
        bar.update(metrics.step - bar.n)

    def progress(self, what: str, done: int, whole: int) -> None:
        self._shown().set_postfix_str(how_far(what, done, whole))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _shown(self) -> Any:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=self._steps, unit="step", disable=None, dynamic_ncols=True)
        return self._bar


def run(
    recipe: Recipe, files: models.Files, *, resume: str, folder: Path | None, cpu: bool, consent: dict[str, Any]
) -> str:
    """Train `recipe` to its end, and return the summary in words.

    folder: a pipeline instead of the recipe's files. consent: the arguments of Makers about judges.
    After Ctrl-C and SIGTERM everything is saved, and StopRequestedError says by which signal.
    """
    stop = Stop()
    stop.listen()
    with ExitStack() as stack:
        processes = stack.enter_context(world.joined(recipe, cpu=cpu, check=stop.check))
        if processes.leads:
            stack.enter_context(_log())
        parts = models.make(recipe, files, folder=folder, cpu=cpu, check=stop.check)
        stop.tell = parts.stop or nothing
        stack.enter_context(parts.around())
        task = _task(recipe, Makers(parts.compute, files.reward_files, parts.check, **consent), resume)
        _check_base(recipe, parts.policy)
        try:
            under_way = begin(
                parts.policy,
                parts.decoder,
                task=task,
                places=files.places,
                reporters=[Bar(recipe.config.run.iterations)],
                free=parts.free,
                preflight=parts.preflight and parts.preflight(task.reward),
                processes=processes,
            )
        except BaseException:
            stop.check()  # what it raises says that it is no failure
            raise
        return _driven(under_way, recipe, stop, processes)


def _driven(run: Any, recipe: Recipe, stop: Stop, processes: Any) -> str:
    """Train a run that has begun."""
    try:
        with run.policy:
            for metrics in run.steps(processes):
                _keep_recipe(run, recipe, processes)
                run.after_step(metrics)
                if run.stopped:
                    break
                stop.check()
        outcome = run.finish()
    except BaseException as error:
        name = "" if stop.number is None else signal.Signals(stop.number).name
        run.stop(f"stopped by {name}" if name else f"stopped ({type(error).__name__})")
        stop.check()
        raise
    run.close()
    return outcome.summary.text()


def _keep_recipe(run: Any, recipe: Recipe, processes: Any) -> None:
    """Put the recipe into the run's folder, which then is one itself."""
    if processes.leads and not (run.folder.path / FILE).exists():
        write_atomically(run.folder.path / FILE, json.dumps(dict(recipe.values), indent=1).encode())


def _task(recipe: Recipe, makers: Makers, resume: str) -> Any:
    """The task, with its rewards made."""
    from dataclasses import replace

    said, guard = recipe.values.get("judge"), recipe.guard()
    judge = None if said is None else makers.reward(said, "judge")
    settings = recipe.settings(resume)
    if guard is not None:
        config, watched = guard
        held_out = None if watched is None else makers.reward(watched, "guard.held_out")
        settings = replace(settings, guard=GuardSettings(config, held_out))
    reward = RewardMix.of(makers.reward(recipe.values.get("reward")))
    return Task(recipe.config, settings, recipe.prompts, reward, judge)


def _check_base(recipe: Recipe, policy: Any) -> None:
    """ConfigError where the model is not the one that the recipe was made with."""
    if recipe.base is None:
        return
    with policy:
        if not policy.is_base(recipe.base):
            raise ConfigError(
                f"model: {policy.fingerprint()} is loaded, and the recipe was made with {recipe.base}: name its files, "
                "or take model out of the recipe to train another"
            )


def _log() -> Any:
    """The log of the run on the terminal, beside the bar."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    logger = logging.getLogger("pave")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    logger.propagate = False
    return logging_redirect_tqdm([logger])
