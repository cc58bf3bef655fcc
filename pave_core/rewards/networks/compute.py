"""Where a network computes, and in which number format.

A reward's network rests on the CPU and visits a device while it scores, so that the policy has the device's memory
while it is updated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from ...batches import Batches, nothing
from ...errors import ConfigError, quoted

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

SMALLER = "choose bf16 as the reward's precision, or a smaller reward, or lower width and height"

Placement = Callable[[nn.Module], AbstractContextManager[torch.device]]
"""Inside placement(module) the module is on the device that is yielded; afterwards it is on the CPU again."""


def on(device: torch.device) -> Placement:
    """The placement on one device. The weights in main memory are kept and put back, not copied: leaving is free."""

    @contextmanager
    def place(module: nn.Module) -> Iterator[torch.device]:
        if device.type == "cpu":
            yield device
            return
        weights = module.state_dict()
        buffers = [
            (owner, name, buffer) for owner in module.modules() for name, buffer in owner.named_buffers(recurse=False)
        ]
        try:
            module.to(device)
            yield device
        finally:
            module.load_state_dict(weights, assign=True)
            for owner, name, buffer in buffers:  # load_state_dict leaves out those that are not persistent
                setattr(owner, name, buffer)

    return place


CPU = on(torch.device("cpu"))


@dataclass(frozen=True)
class Compute:
    """How a network reward computes. ConfigError for an unknown precision, or a batch_size below 1.

    placement: where. precision: "fp32", "bf16" or "fp16". batch_size: images in one pass of the network; scores do not
    depend on it except for rounding. free: as in Batches.
    """

    placement: Placement = CPU
    precision: str = "fp32"
    batch_size: int = 16
    free: Callable[[], None] = nothing
    batches: Batches = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision: {quoted(self.precision)} is not known: choose one of {', '.join(PRECISIONS)}"
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size} is below 1: use 1 for the least memory")
        batches = Batches(self.batch_size, what="images in a reward's network", remedy=SMALLER, free=self.free)
        object.__setattr__(self, "batches", batches)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the network's weights; what comes after it (cosines, small heads) is fp32."""
        return PRECISIONS[self.precision]


ON_CPU = Compute()
