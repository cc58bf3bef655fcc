"""What one evaluation of the network keeps for backward: measured for the preflight.

Bytes are counted exactly, from what autograd saves, at three small sizes; the polynomial through them
(pave_core/memory/growth.py) tells those of any size. A network without checkpointing is never run whole, which might
not fit: of each list of blocks, one block is kept instead of computed again, and the difference counts for each of the
list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ....pave_core.memory.growth import Growth
from ....pave_core.memory.needs import Evaluation
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
