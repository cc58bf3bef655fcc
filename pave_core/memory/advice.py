"""Which settings make a run fit that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .needs import Case, Measured, fits, needs_of, with_memory

Level = tuple[str, Callable[[Case], Case]]
"""A setting in words, and the case with it."""

OFFLOADS = tuple(tenth / 10 for tenth in range(1, 10))
RANKS = (64, 32, 16, 8, 4)
SIZES = (0.75, 0.5, 0.25)


def changes_that_fit(measured: Measured, case: Case, budget: float, *, pixels: tuple[int, int]) -> list[str] | None:
    """The settings with which all phases fit, those that cost least first; None where there are none.

    An empty list: it fits as it is. As few as possible, and each as far as it must. pixels: width and height.
    """
    knobs = _knobs(measured, case, pixels)

    def fit(turned: Sequence[int]) -> bool:
        tried = case
        for levels, level in zip(knobs, turned, strict=True):
            tried = levels[level - 1][1](tried) if level else tried
        return fits(needs_of(measured, tried, budget), tried)

    turned = [0] * len(knobs)
    for i, levels in enumerate(knobs):
        if fit(turned):
            break
        turned[i] = len(levels)
    if not fit(turned):
        return None
    for i in reversed(range(len(knobs))):
        turned[i] = next(level for level in range(turned[i] + 1) if fit([*turned[:i], level, *turned[i + 1 :]]))
    return [levels[level - 1][0] for levels, level in zip(knobs, turned, strict=True) if level]


def _knobs(measured: Measured, case: Case, pixels: tuple[int, int]) -> list[list[Level]]:
    """The levels of each thing that can be changed: from what costs little time or quality to what costs much."""
    config, memory = case.config, case.config.memory
    checkpointing: list[Level] = [("checkpointing on", lambda c: with_memory(c, checkpointing="on"))]
    batches: list[Level] = [("batch_size 1", _in_ones), ("batch_size 1 and decode_batch 1", _decoded_in_ones)]
    chains: list[Level] = [("recompute_chains on", lambda c: with_memory(c, recompute_chains=True))]
    in_8_bits: list[Level] = [("weights as fp8 (weight_dtype of the loader)", lambda c: replace(c, in_8_bits=True))]
    offload: list[Level] = [
        (f"offload {share:g}", lambda c, share=share: with_memory(c, offload=share))
        for share in OFFLOADS
        if share > memory.offload
    ]
    rank: list[Level] = [
        (f"rank {r}", lambda c, r=r: replace(c, config=replace(c.config, lora=replace(c.config.lora, rank=r))))
        for r in RANKS
        if r < config.lora.rank
    ]
    width, height = pixels
    size: list[Level] = [
        (f"{int(width * f) // 8 * 8} x {int(height * f) // 8 * 8} pixels", lambda c, f=f: _scaled(c, f)) for f in SIZES
    ]
    return [
        checkpointing if memory.checkpointing == "off" else [],
        batches,
        chains if not memory.recompute_chains else [],
        in_8_bits if measured.weights_in_8_bits < measured.weights and not case.in_8_bits else [],
        offload,
        rank,
        size,
    ]


def _in_ones(case: Case) -> Case:
    return replace(case, config=replace(case.config, rollout=replace(case.config.rollout, batch_size=1)))


def _decoded_in_ones(case: Case) -> Case:
    return with_memory(_in_ones(case), decode_batch=1)


def _scaled(case: Case, factor: float) -> Case:
    *others, height, width = case.shape
    return replace(case, shape=(*others, max(1, int(height * factor)), max(1, int(width * factor))))
