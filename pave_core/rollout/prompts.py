"""Prompts: how they are read from a text, and which are held out for evaluation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from ..batches import SMALLER, explained
from ..config.fields import check_text
from ..errors import ConfigError, quoted
from ..types import Cond, Progress, RunPolicy, nobody

MAX_PROMPTS = 10_000
MAX_PROMPT = 5000
"""The most characters of a prompt: text encoders read some hundred words, and take a minute to cut up a megabyte."""


@dataclass(frozen=True)
class PromptSet:
    """Prompts to train on and prompts that are only evaluated. ConfigError for too many, or one that is too long."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def __post_init__(self) -> None:
        check_prompts("prompts", self.train)
        check_prompts("held_out", self.held_out)

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The held-out prompts, or the training prompts where none are held out."""
        return self.held_out or self.train

    def __str__(self) -> str:
        """For Preview as Text, which may take the prompts of a stranger's LoRA for HTML or Markdown."""
        return f"{len(self.train)} prompts, {len(self.held_out)} held out"


def parse_prompts(text: str) -> list[str]:
    """The prompts of a text, one per line; blank lines, lines that begin with # and repeated prompts are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def check_prompts(name: str, prompts: Any) -> None:
    """ConfigError, about `name`, unless `prompts` are at most MAX_PROMPTS texts of at most MAX_PROMPT characters."""
    if not isinstance(prompts, list | tuple):
        raise ConfigError(f"{name}: {quoted(prompts)} is not a list of texts: write one per line")
    if len(prompts) > MAX_PROMPTS:
        raise ConfigError(f"{name}: {len(prompts)} are too many: give at most {MAX_PROMPTS}")
    for prompt in prompts:
        check_text(name, prompt, MAX_PROMPT)


def split_prompts(prompts: list[str], held_out: float, seed: int) -> PromptSet:
    """Hold out the fraction `held_out` of `prompts`, chosen at random by `seed`.

    0 <= held_out < 1. Above 0, at least one of two or more prompts is held out, and never all. ConfigError if there are
    no prompts or the fraction is outside its range.
    """
    if not prompts:
        raise ConfigError("prompts: there are none: write one per line (lines that begin with # are comments)")
    if not 0 <= held_out < 1:
        raise ConfigError(f"held_out: {held_out} is outside [0, 1): 0.2 keeps a fifth for evaluation")
    check_prompts("prompts", prompts)
    count = min(max(round(held_out * len(prompts)), 1), len(prompts) - 1) if held_out > 0 else 0
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    kept = set(order[:count])
    train = tuple(p for i, p in enumerate(prompts) if i not in kept)
    return PromptSet(train, tuple(p for i, p in enumerate(prompts) if i in kept))


def encode_all(policy: RunPolicy, prompts: Collection[str], progress: Progress = nobody) -> dict[str, Cond]:
    """{prompt: its conditioning}. The policy is probed after the first: there may be thousands."""
    conds: dict[str, Cond] = {}
    for prompt in prompts:
        conds[prompt] = policy.encode(prompt)
        progress("encoding", len(conds), len(prompts))
        if len(conds) == 1:
            with explained("the first call of the network", SMALLER):
                policy.probe(conds[prompt])
    return conds
