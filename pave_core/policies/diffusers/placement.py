"""Where the weights of a pipeline's network are: on the device while it computes, else in main memory.

A share of its blocks can stay in main memory for good: accelerate's hooks, by which diffusers offloads layer by layer,
put copies of a layer's weights on the device for each of its calls. That trains: autograd keeps the copies, and where a
block is computed again for its gradient, they are made again. Diffusers' group offloading does not: it moves the
weights themselves, so that a backward finds them elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import set_checkpoint_early_stop

from ...errors import ConfigError


class Placement:
    """The network of a pipeline, most of which can leave the device. What is in no block is on it from here on.

    share: of the network's weights, rounded up to whole blocks, that are never on the device but as copies. ConfigError
    where they are quantised, for what they are made of has to stay whole.
    """

    def __init__(self, network: nn.Module, device: torch.device, share: float) -> None:
        self._device = device
        blocks = [block for part in network.children() if isinstance(part, nn.ModuleList) for block in part]
        self._copied = list(_until(blocks, share * _bytes(network)))
        if self._copied and getattr(network, "is_quantized", False):
            raise ConfigError(f"offload: {share} of a network whose weights are quantised: set it to 0")
        # Found before there is an adapter, whose parameters stay on the device.
        within = {module for block in blocks for module in block.modules()}
        self._staying = [module for module in network.modules() if module not in within]
        self._moved = [module for block in blocks[len(self._copied) :] for module in block.modules()]
        if stays(network):
            self._staying, self._moved = [], []
        self._kept: dict[nn.Module, dict[str, Tensor]] = {}
        self.stay()

    @property
    def copies(self) -> bool:
        """Whether some of the network is on the device only as copies."""
        return bool(self._copied)

    def stay(self) -> None:
        """Put on the device what is in no block."""
        _move(self._staying, self._device)

    def come(self) -> None:
        """Put on the device what is not copied to it."""
        _move(self._moved, self._device)

    def leave(self) -> None:
        """Free the device of it."""
        _move(self._moved, torch.device("cpu"))

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Inside, layers of the share can be called. There is no adapter in them yet, and none any more at the end."""
        from accelerate.hooks import attach_align_device_hook, remove_hook_from_module

        self.stay()
        for block in self._copied:
            self._kept[block] = dict(block.state_dict(keep_vars=True))
            attach_align_device_hook(block, self._device, offload=True, weights_map=self._kept[block])
        try:
            # A computation that stops early leaves a layer whose copies nothing takes away: 4 GB in FLUX.
            with set_checkpoint_early_stop(not self._copied):
                yield
        finally:
            for block in self._copied:
                remove_hook_from_module(block, recurse=True)
            self._kept = {}

    def weights(self) -> Iterator[Tensor]:
        """The weights of the share, while they are elsewhere."""
        return (value for weights in self._kept.values() for value in weights.values())


def moved(part: nn.Module, device: torch.device) -> nn.Module:
    """The part of a pipeline on the device, if it can be moved."""
    return part if stays(part) else part.to(device)


def stays(part: nn.Module) -> bool:
    """Whether a part stays where it was loaded: bitsandbytes loads onto its device."""
    return getattr(part, "quantization_method", None) == "bitsandbytes"


def _until(blocks: Iterable[nn.Module], wanted: float) -> Iterator[nn.Module]:
    """The first blocks, as many as have `wanted` bytes, or all."""
    found = 0
    for block in blocks:
        if found >= wanted:
            return
        found += _bytes(block)
        yield block


def _bytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


def _move(modules: Iterable[nn.Module], device: torch.device) -> None:
    """Move what belongs to the modules themselves; not their children, among which may be an adapter."""
    for module in modules:
        module._apply(lambda tensor: tensor.to(device), recurse=False)
