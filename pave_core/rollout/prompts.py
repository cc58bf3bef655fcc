"""Prompts: parsing, and the part that is held out for evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import ConfigError


@dataclass(frozen=True)
class PromptSet:
    """Prompts to train on and prompts that are only evaluated."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The held-out prompts, or the training prompts where none are held out."""
        return self.held_out or self.train


def parse_prompts(text: str) -> list[str]:
    """One prompt a line; blank lines and lines that begin with # are skipped, repeated prompts count once."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def split_prompts(prompts: list[str], held_out: float, seed: int) -> PromptSet:
    """Hold out the fraction `held_out` of `prompts`, chosen at random by `seed`: at least one if there are two or more, never all."""
    if not prompts:
        raise ConfigError("prompts: there are none: write one a line (lines that begin with # are comments)")
    if not 0 <= held_out < 1:
        raise ConfigError(f"held_out: {held_out} is outside [0, 1): 0.2 keeps a fifth for evaluation")
    count = min(max(round(held_out * len(prompts)), 1), len(prompts) - 1) if held_out > 0 else 0
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    kept = set(order[:count])
    train = tuple(p for i, p in enumerate(prompts) if i not in kept)
    return PromptSet(train, tuple(p for i, p in enumerate(prompts) if i in kept))
