"""A TAESD decoder without the channels that hold nothing.

The host's TAESD has 64 channels at every resolution, and 90 % of its multiplications are at the two finest. A decoder
that needs fewer there still fits the class, and the stock VAELoader, with zeros for the rest. Where row o of a
convolution and its bias are zero, so is channel o of what it gives, and ReLU and sums keep it so; what reads it does
without column o:

    (W h)_o = sum_i W_oi h_i = sum over i with h_i != 0

What lean() leaves out are therefore products with zero: the images are the same up to the order of the sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lean(decoder: nn.Module) -> None:
    """Cut the convolutions of the host's TAESD decoder to the channels that hold something, and lay them out for a CPU.

    At each resolution the convolution that enters it says how many: those up to its last row that is not zero. Inside
    a block no row beyond them may hold anything: ValueError. A decoder without zeros keeps its shapes.
    """
    width = 0
    for layer in decoder.children():
        if isinstance(layer, nn.Conv2d):
            width = _cut(layer, width or layer.in_channels, _rows(layer))
            continue
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                if _rows(conv) > width:
                    raise ValueError(f"a block of {width} channels has a convolution that fills {_rows(conv)}")
                _cut(conv, width, width)


def _rows(conv: nn.Conv2d) -> int:
    """The output channels up to the last one with a weight or a bias that is not zero."""
    held = conv.weight.detach().flatten(1).any(1)
    if conv.bias is not None:
        held |= conv.bias.detach() != 0
    return int(held.nonzero().max()) + 1 if held.any() else 0


def _cut(conv: nn.Conv2d, inputs: int, outputs: int) -> int:
    """Keep the first `inputs` and `outputs` channels; returns `outputs`.

    Channels last: the CPU's kernels read and write it as it is, and reorder every tensor of another layout twice.
    """
    conv.in_channels, conv.out_channels = inputs, outputs
    weight = conv.weight.detach()[:outputs, :inputs]
    conv.weight = _frozen(weight.contiguous(memory_format=torch.channels_last))
    if conv.bias is not None:
        conv.bias = _frozen(conv.bias.detach()[:outputs].clone())
    return outputs


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
