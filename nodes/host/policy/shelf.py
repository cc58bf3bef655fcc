"""Where the conditioning of thousands of prompts is kept: in memory up to a limit, beyond it in files.

A prompt of FLUX takes 4 MB. The tensors of a file are mapped into memory: they are read when they are used, and the
system may forget them again. Values are the same to the bit.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

IN_MEMORY = 2**30
"""Bytes of tensors that are kept in memory."""

logger = logging.getLogger("pave")


class Shelf:
    """Keeps the tensors of conditionings. in_memory: as IN_MEMORY."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._room = in_memory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0
        self._full = False  # whether a file could not be written

    def put(self, cond: list[Any]) -> list[Any]:
        """A CONDITIONING with the values of `cond`, whose tensors on the CPU are in files where memory has no room."""
        return with_tensors(cond, self._put)

    def _put(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu" or tensor.nbytes <= self._room or self._full:
            self._room -= tensor.nbytes
            return tensor
        try:
            return self._in_a_file(tensor)
        except (OSError, SafetensorError) as error:
            self._full = True
            logger.warning(f"Pave-GRPO conditioning stays in memory, as no file for it can be written: {error}")
            return tensor

    def _in_a_file(self, tensor: Tensor) -> Tensor:
        if self._folder is None:
            # The host empties its folder for temporary files when it starts: nothing stays there after a crash.
            parent = Path(folder_paths.get_temp_directory())
            parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(dir=parent, prefix="conditioning-", ignore_cleanup_errors=True)
            logger.info(f"Pave-GRPO the conditioning of so many prompts is kept in files, in {parent}")
        self._files += 1
        file = Path(self._folder.name) / f"{self._files}.safetensors"
        save_file({"tensor": tensor.contiguous()}, file)
        mapped = load_file(file)["tensor"]
        with contextlib.suppress(OSError):  # Windows refuses while it is mapped
            file.unlink()
        return mapped


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with change(tensor) in place of each tensor in its lists and dictionaries."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: with_tensors(item, change) for key, item in value.items()}
    return type(value)(with_tensors(item, change) for item in value) if type(value) in (list, tuple) else value
