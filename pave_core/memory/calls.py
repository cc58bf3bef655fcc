"""How long calls of the network take, and what they take of the device: measured before a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..batches import is_out_of_memory

REPEATS, ENOUGH = 3, 1.0
"""A call is timed so often, or until so many seconds have passed; the fastest counts."""


@dataclass(frozen=True)
class Seconds:
    """Seconds of one latent or image at the size of the run; NaN where they are not known."""

    sampling: float  # its share of a call without gradient, of `latents`
    forward: float  # a call of it alone, without gradient
    backward: float  # the rest of a call with gradient, without computing blocks again
    decode: float = math.nan
    reward: float = math.nan
    latents: int = 1  # in the call of `sampling`

    def share(self, n: float) -> float:
        """The time of a latent in a call of n, relative to that of a call of its own: (a / n + b) / (a + b)."""
        if self.latents == 1:
            return 1.0
        spread = (self.forward - self.sampling) / (1 - 1 / self.latents)  # a
        fixed = min(1.0, max(0.0, spread / self.forward))
        return fixed / n + 1 - fixed


@dataclass(frozen=True)
class Call:
    """What calls of the network take at the size of the run; bytes are None where the device's allocator is silent."""

    seconds: Seconds
    forward: float | None  # bytes that a call without gradient takes, for each latent in it
    backward: float | None  # bytes of a call of one latent with its backward, all that it keeps among them


def measure_call(
    velocity: Callable[[int], Tensor], parameters: Sequence[nn.Parameter], *, batch_size: int, again: bool
) -> Call | None:
    """Call velocity(n) -> (n, *S) without gradient and with; None if there is no memory for it.

    batch_size: latents in a call of a rollout. again: whether blocks are computed again meanwhile, which is not counted
    as `backward`. The gradients of `parameters` are as before.
    """
    before = [p.grad for p in parameters]
    device = parameters[0].device
    try:
        for p in parameters:
            p.grad = torch.zeros_like(p)  # their memory is not what is asked for
        with torch.no_grad():
            single = _metered(device, lambda: wait_for(velocity(1)))
            many = _metered(device, lambda: wait_for(velocity(batch_size))) if batch_size > 1 else None
        with torch.enable_grad():
            both = _metered(device, lambda: _backward(velocity(1), parameters[0]))
    finally:
        for p, grad in zip(parameters, before, strict=True):
            p.grad = grad
    if single is None or both is None:
        return None
    sampling, n = (single, 1) if many is None else (many, batch_size)  # what does not fit will be halved
    backward = max(0.0, both.seconds - (1 + again) * single.seconds)
    seconds = Seconds(sampling.seconds / n, single.seconds, backward, latents=n)
    return Call(seconds, None if sampling.bytes is None else sampling.bytes / n, both.bytes)


def wait_for(tensor: Tensor) -> None:
    """Return when the device has computed `tensor`."""
    tensor.flatten()[:1].tolist()


def _metered(device: torch.device, compute: Callable[[], None]) -> _Meter | None:
    """The meter of compute(); None if there is no memory for it."""
    try:
        return _Meter(device, compute)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


class _Meter:
    """The seconds of compute(), and the bytes of the device that it took at most."""

    def __init__(self, device: torch.device, compute: Callable[[], None]) -> None:
        compute()  # a first call may load weights
        on_cuda = device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
        before, started = torch.cuda.memory_allocated(device) if on_cuda else 0, time.perf_counter()
        self.seconds = math.inf
        for _ in range(REPEATS):
            start = time.perf_counter()
            compute()
            self.seconds = min(self.seconds, time.perf_counter() - start)
            if time.perf_counter() - started > ENOUGH:
                break
        self.bytes = torch.cuda.max_memory_allocated(device) - before if on_cuda else None


def _backward(v: Tensor, parameter: nn.Parameter) -> None:
    v.sum().backward()
    assert parameter.grad is not None
    wait_for(parameter.grad)
