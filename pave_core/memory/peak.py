"""The most memory that was in use so far."""

from __future__ import annotations

import sys

import torch


def peak_gb(device: torch.device) -> float | None:
    """GB (2^30 bytes): the most that torch held on a CUDA device, else the most that this process had.

    As the allocator and the system count them: nothing waits for the device, and no counter is set back. None where
    the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
