"""What one evaluation of the network keeps for backward, and how long it takes: measured for the preflight.

Bytes are counted exactly, from what autograd saves, at three small sizes; the polynomial through them
(pave_core/memory/growth.py) tells those of any size. A network without checkpointing is never run whole, which might
not fit: of each list of blocks, one block is kept instead of computed again, and the difference counts for each of the
list.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ....pave_core.batches import is_out_of_memory
from ....pave_core.memory.growth import Growth
from ....pave_core.memory.needs import Evaluation, Seconds
from .autograd.network import DifferentiableNetwork

Shape = tuple[int, ...]


def measure_evaluation(
    velocity: Callable[[Shape], Tensor], network: DifferentiableNetwork, *, model: nn.Module, shapes: Sequence[Shape]
) -> Evaluation:
    """What velocity (latent shape -> (1, *S), with gradient) keeps at the `shapes`, without the weights of `model`.

    network: that of `model`, with its blocks checkpointed, or without blocks.
    """
    checkpointed, plain, block = {}, {}, {}
    for shape in shapes:
        area = shape[-2] * shape[-1]
        least = kept_bytes(lambda shape=shape: velocity(shape), model)
        more = []  # (what one block more keeps, how many there are) by list
        for blocks in network.lists():
            blocks[0].kept = True
            try:
                one_kept = kept_bytes(lambda shape=shape: velocity(shape), model)
            finally:
                blocks[0].kept = False
            more.append((max(0, one_kept - least), len(blocks)))
        checkpointed[area] = least
        plain[area] = least + sum(count * size for size, count in more)
        block[area] = max((size for size, _ in more), default=least)
    return Evaluation(*(Growth.through(points) for points in (checkpointed, plain, block)))


@torch.enable_grad()
def kept_bytes(compute: Callable[[], Tensor], model: nn.Module) -> int:
    """The bytes that autograd keeps of compute(), each memory once, without parameters and buffers of `model`."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()  # as long as it lives, so does what was kept, and no address is used twice
    assert result.requires_grad
    return sum(kept.values())


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

    batch_size: latents in a call of a rollout. again: whether blocks are computed again meanwhile. The gradients of
    `parameters` are as before.
    """
    before = [p.grad for p in parameters]
    device = parameters[0].device
    try:
        for p in parameters:
            p.grad = torch.zeros_like(p)  # their memory is not what is asked for
        with torch.no_grad():
            single = _metered(device, lambda: _wait_for(velocity(1)))
            many = _metered(device, lambda: _wait_for(velocity(batch_size))) if batch_size > 1 else None
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


def _metered(device: torch.device, compute: Callable[[], None]) -> _Meter | None:
    """The meter of compute(); None if there is no memory for it."""
    try:
        return _Meter(device, compute)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


REPEATS, ENOUGH = 3, 1.0
"""A call is timed so often, or until so many seconds have passed; the fastest counts."""


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
    _wait_for(parameter.grad)


def _wait_for(tensor: Tensor) -> None:
    """Return when the device has computed `tensor`."""
    tensor.flatten()[:1].tolist()
