"""What network rewards share: where they compute, and weights from files that nobody vouches for.

A reward's network rests on the CPU and visits a device while it scores, so that the policy has the card while it is updated. Files are data:
safetensors, or pickles under torch.load(weights_only=True), which refuses code. A file is read whole and checked against the architecture
before anything is scored; what is wrong with it is said by name, with what to do.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_SHOWN = 3  # names in a message

Placement = Callable[[nn.Module], AbstractContextManager[torch.device]]
"""Inside placement(module) the module is on the device that is yielded; afterwards it is on the CPU again."""


def on(device: torch.device) -> Placement:
    """The plain placement. The weights in main memory are kept and taken back, not copied back: leaving costs nothing."""

    @contextmanager
    def place(module: nn.Module) -> Iterator[torch.device]:
        if device.type == "cpu":
            yield device
            return
        weights = module.state_dict()
        buffers = [(owner, name, buffer) for owner in module.modules() for name, buffer in owner.named_buffers(recurse=False)]
        try:
            module.to(device)
            yield device
        finally:
            module.load_state_dict(weights, assign=True)
            for owner, name, buffer in buffers:  # those that are in no state dict
                setattr(owner, name, buffer)

    return place


CPU = on(torch.device("cpu"))


@dataclass(frozen=True)
class Compute:
    """How a network reward computes. Scores do not depend on batch_size but for rounding."""

    placement: Placement = CPU
    precision: str = "fp32"
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision: {self.precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size} is below 1: use 1 for the least memory")

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the network; what comes after it (cosines, small heads) is fp32."""
        return PRECISIONS[self.precision]


ON_CPU = Compute()


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules made inside have buffers but no memory for weights: these come from a file. No inference tensors, whatever mode the caller is in."""
    from accelerate import init_empty_weights

    with torch.inference_mode(False), torch.no_grad(), init_empty_weights(include_buffers=False):
        yield


def read_weights(path: Path, field: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file by name; a "state_dict" or "model" around them and a "module." before each name are taken off.

    field: the input that named the file, for messages. ConfigError where the file is missing, empty, cut short, something else under this name, or
    holds code. Tensors may be read from the disk only when they are used.
    """
    if not path.is_file():
        raise ConfigError(f"{field}: {path.name} does not exist: choose a file that does, or download it again and put it there")
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:  # the length of a safetensors header; eight letters are a larger number
        found = _read_safetensors(path, field)
    elif head.startswith((b"PK", b"\x80")):
        found = _read_pickle(path, field)
    else:
        raise ConfigError(f"{field}: {path.name} {_what_else(head)}")
    while isinstance(found, Mapping) and (inner := next((found[k] for k in ("state_dict", "model") if isinstance(found.get(k), Mapping)), None)):
        found = inner
    if not isinstance(found, Mapping) or not found or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise ConfigError(f"{field}: {path.name} holds no weights (a {type(found).__name__}, not tensors by name): choose the model's file")
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
    reason = "its pickle can not be read" if isinstance(error, pickle.UnpicklingError) else " ".join(str(error).split())[:160] or type(error).__name__
    return ConfigError(
        f"{field}: {path.name} is damaged or cut short ({path.stat().st_size:,} bytes; {reason}): compare its size with the original's and "
        "download it again"
    )


def load_into(module: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype, field: str, path: Path, what: str) -> None:
    """Fill a module of empty_weights() with all of `state` and nothing else, as `dtype`; then it is in eval mode and frozen.

    what: the architecture and what to choose instead, for the ConfigError: "X: choose Y".
    """
    wanted = module.state_dict()
    common = [key for key in wanted if key in state]
    misfits = {
        "missing": [key for key in wanted if key not in state],
        "of another shape": [f"{k} {tuple(state[k].shape)} not {tuple(wanted[k].shape)}" for k in common if state[k].shape != wanted[k].shape],
        "too many": [key for key in state if key not in wanted],
    }
    if any(misfits.values()):
        shown = "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in misfits.items() if keys)
        raise ConfigError(f"{field}: {path.name} does not fit {what}. Of {len(wanted)} tensors: {shown}")
    with torch.inference_mode(False), torch.no_grad():
        converted = {key: _converted(state[key], dtype) for key in wanted}
        for key, value in converted.items():
            if not value.sum(dtype=torch.float32).isfinite():
                remedy = "choose fp32 or bf16" if dtype == torch.float16 and state[key].float().sum().isfinite() else "download it again"
                raise ConfigError(f"{field}: {path.name} has numbers in {key} that are not finite as {_name(dtype)}: {remedy}")
        module.load_state_dict(converted, assign=True)
    module.eval().requires_grad_(False)


def _converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of its own: what is read may be a window on the file, which can change or go."""
    return value.to(dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _name(dtype: torch.dtype) -> str:
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def file_record(path: Path) -> dict[str, object]:
    """A file for recipes: name and size, no folder."""
    return {"file": path.name, "bytes": path.stat().st_size}


def within(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of `state` below a prefix such as "visual.", without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def without_positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the "position_ids" that files of older versions of transformers hold: 0, 1, 2, ..."""
    return {key: value for key, value in state.items() if not key.endswith("position_ids")}


def mlp(width: int, places: Sequence[int]) -> nn.Sequential:
    """Linear layers width - 1024 - 128 - 64 - 16 - 1 at `places`, the head of several rewards. Between them was dropout, and no activation."""
    widths = (width, 1024, 128, 64, 16, 1)
    linear = {place: nn.Linear(n, m) for place, n, m in zip(places, widths, widths[1:])}
    return nn.Sequential(*(linear.get(i, nn.Identity()) for i in range(places[-1] + 1)))
