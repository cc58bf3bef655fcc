"""One conditioning for each item of a batch, in as few calls of the network as that takes.

The host repeats a conditioning over the batch (COND.process_cond), and takes one that is as long as the batch as it is:

    joined[i] = cond_i                 along the first axis of every tensor

Conditionings are joined where they differ in nothing but the values of their tensors. Texts of other lengths are called
for by themselves: the host would repeat the shorter one, which changes the result wherever text has positions.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Sequence
from typing import Any

import comfy.conds
import torch
from torch import Tensor

from .conditioning import Prepared

OF_TENSORS = (comfy.conds.CONDRegular, comfy.conds.CONDNoiseShape, comfy.conds.CONDCrossAttn, comfy.conds.CONDList)
"""The host's classes of values that have a row for each item."""
REGIONAL = ("area", "mask", "strength", "gligen", "default")
"""The keys of a conditioning that has a part in the image."""
KEPT = 4
"""The conditionings of so many batches are kept: those of the calls at one sigma. Each has memory for all its rows."""

Calls = list[tuple[list[int], Prepared]]
"""Rows of a batch, and what the network is called with for them."""


class Joining:
    """How the items of a batch go through the network, and what was joined of late."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Prepared, ...], Calls] = {}  # the latest last

    def calls(self, prepared: tuple[Prepared, ...], sigma: Tensor) -> Calls:
        """The calls for B items with the conditionings `prepared`, at sigma (B,).

        Where something acts by the time step, the items of a call have one conditioning and one sigma, since the host
        takes that of the first for all. Only then is the device waited for.
        """
        one_for_all = all(each is prepared[0] for each in prepared)
        follows = any(each.follows_sigma for each in set(prepared))
        if one_for_all and (len(prepared) == 1 or not follows):
            return [(list(range(len(prepared))), prepared[0])]
        if follows:
            return _calls(prepared, sigma.tolist())
        calls = self._kept.pop(prepared, None) or _calls(prepared, [0.0] * len(prepared))
        self._kept[prepared] = calls
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return calls

    def forget(self) -> None:
        """Drop what is kept."""
        self._kept.clear()


def _calls(prepared: Sequence[Prepared], sigmas: Sequence[float]) -> Calls:
    rows: dict[Hashable, list[int]] = {}
    for i, (each, sigma) in enumerate(zip(prepared, sigmas, strict=True)):
        alone = i if each.one_by_one else None
        key = (each, sigma, alone) if each.follows_sigma else structure(each) or each
        rows.setdefault(key, []).append(i)
    return [(of, _joined([prepared[i] for i in of])) for of in rows.values()]


def _joined(prepared: Sequence[Prepared]) -> Prepared:
    """`prepared`, of one structure, as one; the first itself where they are all the same object."""
    one_for_all = all(each is prepared[0] for each in prepared)
    return prepared[0] if one_for_all else join(prepared)


def structure(prepared: Prepared) -> Hashable | None:
    """What is equal of conditionings that can be joined; None: this one cannot."""
    if prepared.follows_sigma:
        return None
    parts: list[Hashable] = []
    for name, cond in prepared.conds.items():
        for each in cond:
            forms = {key: _form(value) for key, value in each["model_conds"].items()}
            if None in forms.values() or any(key in each for key in REGIONAL):
                return None
            parts.append((name, frozenset(forms.items())))
    return tuple(parts)


@torch.no_grad()
def join(prepared: Sequence[Prepared]) -> Prepared:
    """Conditionings of one structure as one with a row for each."""
    first = prepared[0]
    conds = {}
    for name, cond in first.conds.items():
        conds[name] = []
        for i, each in enumerate(cond):
            values = [one.conds[name][i]["model_conds"] for one in prepared]
            joined = {key: _joined_value([of[key] for of in values]) for key in each["model_conds"]}
            conds[name].append(each | {"model_conds": joined, "uuid": uuid.uuid4()})
    return Prepared(conds, first.options)


def _form(value: Any) -> Hashable | None:
    """What is equal of values that can be joined; None: this one cannot."""
    if type(value) is comfy.conds.CONDConstant:
        return repr(value.cond) if _is_plain(value.cond) else id(value.cond)
    tensors = value.cond if isinstance(value.cond, list) else [value.cond]
    if type(value) not in OF_TENSORS or any(len(tensor) != 1 for tensor in tensors):
        return None
    return type(value), *((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)


def _is_plain(value: Any) -> bool:
    """Whether repr() tells all of `value`."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _joined_value(values: Sequence[Any]) -> Any:
    """Values of one form as one."""
    first = values[0]
    if isinstance(first, comfy.conds.CONDConstant):
        return first
    if isinstance(first, comfy.conds.CONDList):
        return type(first)([torch.cat(each) for each in zip(*(value.cond for value in values), strict=True)])
    return type(first)(torch.cat([value.cond for value in values]))
