"""ComfyUI in this process, and the modules of the pack that are measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from _host.package import ROOT, load_package


def start(comfyui: Path, base: Path, *, cpu: bool) -> None:
    """Make the host's modules importable. `base`: an empty folder for its models, input and output.

    To be called before torch is imported: the host chooses torch's allocator, as its main.py does.
    """
    sys.path.insert(0, str(comfyui))
    args = import_module("comfy.cli_args").args  # the defaults: the host reads argv only in its main.py
    args.cpu, args.base_directory = cpu, str(base)
    if not cpu:
        import_module("cuda_malloc")


def pack_module(name: str) -> ModuleType:
    """A module of the pack, such as "nodes.host.tiny", as the host imports it."""
    return import_module(f"{load_package('pave_pack', ROOT).__name__}.{name}")


def facts() -> dict[str, Any]:
    """What this runs on."""
    import torch

    management = import_module("comfy.model_management")
    device = management.get_torch_device()
    cuda = device.type == "cuda"
    return {
        "comfyui": import_module("comfyui_version").__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "device_gb": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1) if cuda else None,
        "allocator": torch.cuda.get_allocator_backend() if cuda else None,
        "free_ram_gb": round(management.get_free_memory(torch.device("cpu")) / 2**30, 1),
    }


@contextmanager
def smaller_card(gb: float | None) -> Iterator[None]:
    """Inside, torch takes at most `gb` GB of the card, and the host counts on no more; None: all of it."""
    import torch

    management: Any = import_module("comfy.model_management")
    device = management.get_torch_device()
    if gb is None or device.type != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    hidden = max(0, total - int(gb * 2**30))
    whole = management.get_free_memory

    def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
        found = whole(dev, torch_free_too)
        if (dev or device).type != "cuda":
            return found
        return (found[0] - hidden, found[1]) if torch_free_too else found - hidden

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, gb * 2**30 / total), device)
    management.get_free_memory = get_free_memory
    try:
        yield
    finally:
        management.get_free_memory = whole
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def unload() -> None:
    """Take every model off the device, and give its memory back."""
    import gc

    management = import_module("comfy.model_management")
    gc.collect()
    management.unload_all_models()
    management.soft_empty_cache()
