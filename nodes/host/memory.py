"""The host's management of memory, as far as all parts of the pack ask it for something."""

from __future__ import annotations

from typing import Any

import comfy.model_management

management: Any = comfy.model_management


def free_caches() -> None:
    """Give memory that is reserved but not used back to the device. For micro-batches, after memory has run out."""
    if hasattr(management, "discard_cuda_async_error") and not management.is_device_cpu(management.get_torch_device()):
        management.discard_cuda_async_error()  # newer hosts: the next call would raise the error a second time
    management.soft_empty_cache()
