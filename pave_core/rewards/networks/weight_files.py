"""Weights from files that nobody vouches for.

A file is data: safetensors, or a pickle under torch.load(weights_only=True), which refuses code. What is wrong with it
is found before anything is scored, and the message says what it is and what to do.
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
from ...files import require_header

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def read_weights(path: Path, field: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file by name, without what training runs wrap around them.

    That is a "state_dict" or "model" around the tensors, and a "module." before each name. Tensors may be read from the
    disk only when they are used. field: the input that named the file, for messages. ConfigError where the file is
    missing, empty, cut short or of another kind, or holds code.
    """
    if not path.is_file():
        remedy = "choose a file that does, or download it again and put it there"
        raise ConfigError(f"{field}: {path.name} does not exist: {remedy}")
    with path.open("rb") as file:
        head = file.read(512)
    if _is_safetensors(head):
        require_header(path, field)
        found = _read_safetensors(path, field)
    elif head.startswith((b"PK", b"\x80")):
        found = _read_pickle(path, field)
    else:
        raise ConfigError(f"{field}: {path.name} {_what_else(head)}")
    found = _unwrapped(found)
    if not _is_weights(found):
        kind = f"a {type(found).__name__}, not tensors by name"
        raise ConfigError(f"{field}: {path.name} holds no weights ({kind}): choose the model's file")
    prefix = "module." if all(key.startswith("module.") for key in found) else ""
    return {key.removeprefix(prefix): value for key, value in found.items()}


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a safetensors header and a "{".

    Text may have the "{" there too, but its first eight letters are a larger number than any header is long.
    """
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def _unwrapped(content: Any) -> Any:
    """What is inside all "state_dict" and "model" of `content`."""
    while isinstance(content, Mapping):
        inner = next((content[k] for k in ("state_dict", "model") if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _is_weights(content: Any) -> bool:
    """Whether `content` is tensors by name, one at least."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _what_else(head: bytes) -> str:
    """What a file is that does not begin as weights do, and what to do."""
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
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(path, field, error) from error


def _read_pickle(path: Path, field: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch and pickle raise a dozen kinds for a damaged file
        text = str(error)
        if "TorchScript" in text:
            raise ConfigError(
                f"{field}: {path.name} is a TorchScript archive, which holds code and is never run: get the model as "
                "safetensors (for OpenAI's CLIP: model.safetensors of openai/clip-vit-large-patch14)"
            ) from error
        if code := re.search(r"GLOBAL ([\w.]+)", text):
            raise ConfigError(
                f"{field}: {path.name} holds code besides weights ({code[1]}), which is never run: get the model as "
                "safetensors, or save its state_dict alone where you trust it"
            ) from error
        raise _damaged(path, field, error) from error


def _damaged(path: Path, field: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to switch its protection off
        reason = "its pickle cannot be read"
    return ConfigError(
        f"{field}: {path.name} is damaged or cut short ({path.stat().st_size:,} bytes; {reason}): compare its size "
        "with the original's and download it again"
    )


def file_record(path: Path) -> dict[str, object]:
    """A file as recipes name it: its name and its size in bytes, without the folder."""
    return {"file": path.name, "bytes": path.stat().st_size}


def within(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of `state` whose names begin with a prefix such as "visual.", named without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def without_positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the "position_ids" that files of older versions of transformers hold: 0, 1, 2, ..."""
    return {key: value for key, value in state.items() if not key.endswith("position_ids")}
