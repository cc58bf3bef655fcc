"""Where the networks of rewards compute: on the host's device, after the host's models have made room.

A network moves there as in the host's own node for upscale models: free the memory that it needs, move it there, use
it, move it back. It is not one of the host's loaded models: it is back before the host loads anything.
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
    """A Placement (see the core's rewards/networks/compute.py): `module` is on the host's device inside.

    Raises the host's interruption if the user pressed Cancel.
    """
    management.throw_exception_if_processing_interrupted()
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        with torch.inference_mode():  # as in the host's own nodes, whose models this moves
            management.free_memory(management.module_size(module) * 1.1 + management.minimum_inference_memory(), device)
    with on(device)(module):
        yield device
