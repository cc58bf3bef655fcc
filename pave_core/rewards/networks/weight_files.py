"""Weights from files that nobody vouches for.

Files are data: safetensors, or pickles under torch.load(weights_only=True), which refuses code. A file is read whole and checked against the
architecture before anything is scored; what is wrong with it is said by name, with what to do.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def read_weights(path: Path, field: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file by name; a "state_dict" or "model" around them and a "module." before each name are taken off.

    field: the input that named the file, for messages. ConfigError where the file is missing, empty, cut short, something else under this name, or
    holds code. Tensors may be read from the disk only when they are used.
    """
    if not path.is_file():
        raise ConfigError(
            f"{field}: {path.name} does not exist: choose a file that does, or download it again and put it there"
        )
    with path.open("rb") as file:
        head = file.read(512)
    if (
        head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40
    ):  # the length of a safetensors header; eight letters are a larger number
        found = _read_safetensors(path, field)
    elif head.startswith((b"PK", b"\x80")):
        found = _read_pickle(path, field)
    else:
        raise ConfigError(f"{field}: {path.name} {_what_else(head)}")
    while isinstance(found, Mapping) and (
        inner := next((found[k] for k in ("state_dict", "model") if isinstance(found.get(k), Mapping)), None)
    ):
        found = inner
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    ):
        raise ConfigError(
            f"{field}: {path.name} holds no weights (a {type(found).__name__}, not tensors by name): choose the model's file"
        )
    prefix = "module." if all(key.startswith("module.") for key in found) else ""
    return {key.removeprefix(prefix): value for key, value in found.items()}


def _what_else(head: bytes) -> str:
    """What a file is that begins like no weights, and what to do."""
    start = head.lstrip().lower()
    if not head:
        return "is empty: the download failed; download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights: run `git lfs pull`, or download the file itself"
    if start.startswith(b"<"):
        return "is a web page that was saved under this name: use the page's download button"
    if start.startswith((b"{", b"[")):
        return "is JSON text (a config, or a server's refusal), not weights: download the weights themselves"
    return "is neither a safetensors nor a PyTorch file: it is damaged, or something else; download it again"


def _read_safetensors(path: Path, field: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, field, error) from error


def _read_pickle(path: Path, field: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch and pickle raise a dozen kinds for a damaged file
        text = str(error)
        if "TorchScript" in text:
            raise ConfigError(
                f"{field}: {path.name} is a TorchScript archive, which holds code and is never run: get the model as safetensors (for OpenAI's CLIP: "
                "model.safetensors of openai/clip-vit-large-patch14)"
            ) from error
        if code := re.search(r"GLOBAL ([\w.]+)", text):
            raise ConfigError(
                f"{field}: {path.name} holds code besides weights ({code[1]}), which is never run: get the model as safetensors, or save its "
                "state_dict alone where you trust it"
            ) from error
        raise _damaged(path, field, error) from error


def _damaged(path: Path, field: str, error: Exception) -> ConfigError:
    # What torch says about a pickle ends in the advice to switch its protection off.
    reason = (
        "its pickle can not be read"
        if isinstance(error, pickle.UnpicklingError)
        else " ".join(str(error).split())[:160] or type(error).__name__
    )
    return ConfigError(
        f"{field}: {path.name} is damaged or cut short ({path.stat().st_size:,} bytes; {reason}): compare its size with the original's and "
        "download it again"
    )


def file_record(path: Path) -> dict[str, object]:
    """A file for recipes: name and size, no folder."""
    return {"file": path.name, "bytes": path.stat().st_size}


def within(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of `state` below a prefix such as "visual.", without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def without_positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the "position_ids" that files of older versions of transformers hold: 0, 1, 2, ..."""
    return {key: value for key, value in state.items() if not key.endswith("position_ids")}
