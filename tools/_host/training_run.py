"""One training run through the server's API: what the user sees meanwhile, and what it left behind.

Standard library only: the quickstart runs this under whatever Python started it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .client import ComfyClient, PromptError, failure
from .progress import ProgressBar
from .terminal import StopRequest


class RunError(RuntimeError):
    """A run ended without the files that it should have written."""


@dataclass(frozen=True)
class Result:
    """The quickstart's table; its fields are the keys of --json.

    Rewards are means over held-out prompts at fixed seeds, reward_se is the standard error of their paired difference.
    Adherence is the share of those images in which the judge finds the prompt's colour and shape.
    """

    reward_before: float
    reward_after: float
    reward_se: float
    adherence_before: float | None
    adherence_after: float | None
    train_seconds: float
    steps: int
    lora: str
    curve: str
    grid: str
    comfyui_version: str

    def table(self) -> str:
        gain, error = self.reward_after - self.reward_before, f"standard error {self.reward_se:.4f}"
        rows = [
            ("", "before", "after", ""),
            ("reward", f"{self.reward_before:.4f}", f"{self.reward_after:.4f}", f"{gain:+.4f}, {error}"),
        ]
        if self.adherence_before is not None and self.adherence_after is not None:
            before, after = f"{self.adherence_before:.1%}", f"{self.adherence_after:.1%}"
            change = 100 * (self.adherence_after - self.adherence_before)
            rows.append(("judge", before, after, f"{change:+.1f} points"))
        lines = [f"{name:<12}{before:>9}{after:>9}   {note}".rstrip() for name, before, after, note in rows]
        lines += [f"{'training':<12}{self.train_seconds:8.0f} s   {self.steps} steps, ComfyUI {self.comfyui_version}"]
        files = {"LoRA": self.lora, "curve": self.curve, "grid": self.grid}
        lines += [f"{name:<12}{path}" for name, path in files.items()]
        return "\n".join(lines)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


class TrainingRun:
    """A prompt with one PaveTrain in it, run on a server that writes below `output`."""

    def __init__(self, client: ComfyClient, prompt: dict[str, Any], output: Path):
        self._client = client
        self._prompt = prompt
        self._output = output
        self._before = set(self._folders())
        self._start = time.time()

    def follow(self, workflow: dict[str, Any] | None = None) -> bool:
        """Queue, show the progress, wait for the end; False when the user stopped it.

        Raises PromptError with a failing node's message.
        """
        prompt_id = self._client.queue(self._prompt, workflow)
        bar = ProgressBar(self._prompt)
        interrupted = False
        try:
            with StopRequest() as stop:
                for event in self._client.events(prompt_id):
                    if stop.made and not interrupted:
                        print("\nStopping ...", flush=True)
                        self._client.interrupt()
                        interrupted = True
                    if event.kind == "execution_error":
                        raise PromptError(failure(event))
                    if event.kind == "execution_interrupted":
                        interrupted = True
                    bar.show(event)
        finally:
            bar.close()
        return not interrupted

    def folder(self) -> Path | None:
        """The run's own folder, output/pave/<run>_<number>; None when the run never got that far."""
        new = [folder for folder in self._folders() if folder not in self._before]
        return max(new, key=lambda folder: folder.stat().st_mtime, default=None)

    def result(self, comfyui_version: str) -> Result:
        """The result of the finished run. Raises RunError when a file that it should have written is not there."""
        folder = self.folder()
        if folder is None:
            raise RunError(f"the run ended, but left no folder in {self._output / 'pave'}")
        summary = json.loads(self._fresh(folder / "summary.json").read_text(encoding="utf-8"))
        return Result(
            reward_before=summary["reward_before"],
            reward_after=summary["reward_after"],
            reward_se=summary["reward_se"],
            adherence_before=summary["judge_before"],
            adherence_after=summary["judge_after"],
            train_seconds=summary["train_seconds"],
            steps=summary["steps"],
            lora=str(self._saved_lora()),
            curve=str(self._fresh(folder / "curve.png")),
            grid=str(self._fresh(folder / "grid.png")),
            comfyui_version=comfyui_version,
        )

    def left_behind(self) -> str:
        """Where the checkpoint and the LoRA so far are, after a stop."""
        folder = self.folder()
        lora = self._output / "loras" / "pave" / f"{folder.name}.safetensors" if folder else None
        kept = [("Checkpoint", folder / "checkpoint.safetensors")] if folder else []
        kept += [("LoRA so far", lora)] if lora else []
        lines = [f"{name}: {path}" for name, path in kept if path.is_file()]
        return "\n".join(lines) or "Stopped before the first step: there is nothing to keep."

    def _folders(self) -> list[Path]:
        parent = self._output / "pave"
        return [folder for folder in parent.iterdir() if folder.is_dir()] if parent.is_dir() else []

    def _saved_lora(self) -> Path:
        """The file of the graph's PaveSaveLoRA: <name>.safetensors, with a number after a name that was taken."""
        (name,) = (node["inputs"]["name"] for node in self._prompt.values() if node["class_type"] == "PaveSaveLoRA")
        loras = self._output / "loras"
        written = [file for file in loras.glob(f"{name}*.safetensors") if self._is_fresh(file)]
        if not written:
            raise RunError(f"the run ended, but {loras / name}.safetensors was not written")
        return max(written, key=lambda file: file.stat().st_mtime)

    def _fresh(self, file: Path) -> Path:
        if not self._is_fresh(file):
            raise RunError(f"the run ended, but {file} was not written")
        return file

    def _is_fresh(self, file: Path) -> bool:
        # Two seconds, because some file systems keep no finer times.
        return file.is_file() and file.stat().st_mtime >= self._start - 2
