"""What a run has learnt, on disk: the LoRA first and by itself, then the state that a resumed run goes on from.

Whatever can be written is written, and training goes on where something cannot: a file that does not fit into its place
goes to the next best one, and Keeper knows what exists. What no place takes stays in memory, and is written when the
process begins another run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..errors import ConfigError
from ..files import WriteError
from ..policies.lora_file import LoraWeights, save_lora
from ..training.state import Checkpoint
from .checkpoint import save_checkpoint
from .folder import Places, RunFolder, Warn

_waiting: list[Keeper] = []
"""Keepers of runs that have ended, whose state or LoRA no place took."""


def write_waiting(warn: Warn) -> None:
    """Write what runs of this process that have ended could not write; what cannot be written yet goes on waiting.

    warn: hears of each run that is whole now.
    """
    for keeper in tuple(_waiting):
        if said := keeper.write_unsaved():
            _waiting.remove(keeper)
            warn(said)


class Keeper:
    """Writes the LoRA and the checkpoint of a run. resumed: the step of the checkpoint that is there already."""

    def __init__(self, folder: RunFolder, places: Places, resumed: int | None = None) -> None:
        self.lora: Path | None = None  # where the LoRA was written last
        self.lora_problem = ""  # why it is not up to date
        self.resumable = resumed  # the step of the run folder's checkpoint
        self.spare: Path | None = None  # where the checkpoint is that could not be written there
        self._folder, self._places = folder, places
        self._step = resumed or 0  # of the newest state that was to be written
        self._unsaved: dict[str, Callable[[], bool]] = {}  # {what no place took last: writes it}

    def save_lora(self, lora: LoraWeights) -> bool:
        """Write the LoRA to its place, beside it, to the run folder or to the spare place; whether it was written."""
        run = self._folder.name
        places = (
            self._places.lora(run),
            self._places.loras / f"{run}_new.safetensors",
            self._folder.path / "lora.safetensors",
            self._places.spare / f"{run}.safetensors",
        )
        before = self.lora
        written, self.lora_problem = self._write("LoRA", places, lambda path: save_lora(path, lora))
        self._remember("LoRA", written, partial(self.save_lora, lora))
        if written is None:
            return False
        if before not in (None, written, places[0]):  # an older one that had to stand in
            with contextlib.suppress(OSError):
                before.unlink()
        self.lora = written
        return True

    def save_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Write the checkpoint to the run folder, or to the spare place; whether it was written."""
        places = (self._folder.checkpoint, self._places.spare / f"{self._folder.name}.checkpoint.safetensors")
        self._step = checkpoint.step
        written, _ = self._write("checkpoint", places, lambda path: save_checkpoint(path, checkpoint))
        self._remember("checkpoint", written, partial(self.save_checkpoint, checkpoint))
        if written == places[0]:
            self.resumable, self.spare = checkpoint.step, None
        else:
            self.spare = written
        return written is not None

    def save_best(self, best: Checkpoint) -> bool:
        """Write the guard's best state; whether it was written."""
        written, _ = self._write("best weights", (self._folder.best,), lambda path: save_checkpoint(path, best))
        self._remember("best weights", written, partial(self.save_best, best))
        return written is not None

    def close(self) -> None:
        """The run has ended: what no place took waits for the next one (see write_waiting)."""
        if self._unsaved and self not in _waiting:
            _waiting.append(self)

    def write_unsaved(self) -> str:
        """Write what no place took, and say in words what exists now; "" where something still has no place.

        Nothing is written over a later state, if another program has gone on with the run.
        """
        name = self._folder.name
        try:
            with contextlib.suppress(OSError):
                self._folder.path.mkdir(parents=True, exist_ok=True)
            self._folder.acquire()
        except ConfigError:  # it is in use
            return ""
        try:
            with contextlib.suppress(ConfigError):  # there is none yet, or a damaged one
                later = self._folder.load_checkpoint().step
                if later > self._step:
                    return f"{name!r} has gone on to step {later}: what was not written of step {self._step} is dropped"
            for write in tuple(self._unsaved.values()):
                write()
            if self._unsaved:
                return ""
        finally:
            self._folder.release()
        return f"{name!r} could not be written before, and is now: {self.where(self._step)}"

    def where(self, step: int) -> str:
        """What exists of the run after `step`, and how to go on, in words."""
        if not self._unsaved:
            return self._on_disk(step)
        return (
            f"{self._on_disk(step)}; until ComfyUI ends, memory keeps {' and '.join(self._unsaved)}: free some space, "
            "and the next run that begins writes them first"
        )

    def _on_disk(self, step: int) -> str:
        lora = f"LoRA so far in {self.lora}" if self.lora else f"the LoRA could not be written ({self.lora_problem})"
        name, file = self._folder.name, self._folder.checkpoint
        if self.spare is not None:
            return f"{lora}, checkpoint in {self.spare}; to go on, move it to {file} and set resume to {name!r}"
        if self.resumable == step:
            return f"{lora}, checkpoint in {file}; to go on, set resume to {name!r}"
        if self.resumable is not None:
            return (
                f"{lora}; resume {name!r} goes on from step {self.resumable}, as no later checkpoint could be written"
            )
        return f"{lora}; there is no checkpoint to go on from"

    def _remember(self, what: str, written: Path | None, write: Callable[[], bool]) -> None:
        if written is None:
            self._unsaved[what] = write
        else:
            self._unsaved.pop(what, None)

    def _write(self, what: str, places: Sequence[Path], write: Callable[[Path], None]) -> tuple[Path | None, str]:
        """(the first of `places` that could be written, or None; why the first could not, or "")."""
        problem = ""
        for path in places:
            try:
                write(path)
            except WriteError as error:
                problem = problem or error.reason
                continue
            if problem:
                self._folder.warn_once(f"the {what} could not be written to {places[0]} ({problem}): it is in {path}")
            return path, problem
        self._folder.warn_once(f"the {what} could not be written to {places[0]} ({problem}): the run goes on")
        return None, problem
