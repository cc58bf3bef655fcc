"""What a measurement ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What this runs on, when the host has been started."""
    import torch

    from _cuda import host

    found = host.facts()
    device = found["device"] if found["device_gb"] is not None else cpu_name()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "comfyui": found["comfyui"],
        "torch": found["torch"],
    }


def cpu_name() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def described(machine: Mapping[str, Any]) -> str:
    """The machine in words."""
    return f"{machine['device']}, {machine['threads']} threads, ComfyUI {machine['comfyui']}, torch {machine['torch']}"
