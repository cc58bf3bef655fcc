"""Where network rewards compute: on the host's device, where the host's models make room for them.

This is how the host's own node for upscale models does it: free the memory that is needed, visit, leave. The network is
not one of the host's loaded models: it has left before the host loads anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management as management
import torch
from torch import nn

from ...pave_core.rewards.networks.compute import on


@contextmanager
def visiting(module: nn.Module) -> Iterator[torch.device]:
    """A Placement of the core: the host's device, or the CPU where that is it.

    Raises the host's interruption if the user pressed Cancel.
    """
    management.throw_exception_if_processing_interrupted()
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        with torch.inference_mode():  # as in the host's own nodes, whose models this moves
            management.free_memory(management.module_size(module) * 1.1 + management.minimum_inference_memory(), device)
    with on(device)(module):
        yield device
