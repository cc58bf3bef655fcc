"""Which settings exclude each other, and why.

A rule is about the settings of one dataclass, which checks it when it is made, or about those of several, which
TrainConfig checks. tools/make_help.py prints the rules into docs/OPTIONS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """Two settings that exclude each other."""

    of: str  # the dataclass that checks it
    first: str  # the setting that is at fault, with its value: "kernel cps"
    second: str  # the setting with which it cannot be
    reason: str  # why, and what to do
    breaks: Callable[[Any], bool]


def _window_is_stuck(rollout: Any) -> bool:
    return rollout.window_every > 0 and max(rollout.branch_steps) == rollout.steps - 2


RULES: tuple[Rule, ...] = (
    Rule(
        "RolloutConfig",
        "kernel cps",
        "eta above 1",
        "its noise is sin(eta pi / 2), which falls again above 1: lower eta to 1 or less",
        lambda c: c.kernel == "cps" and c.eta > 1,
    ),
    Rule(
        "RolloutConfig",
        "window_every above 0",
        "branch_steps up to the last but one step",
        "the branch steps cannot move on: set window_every to 0, lower the branch steps or raise steps",
        _window_is_stuck,
    ),
    Rule(
        "RolloutConfig",
        "contrast",
        "a group_size that is not larger",
        "nothing would be left out of a group: lower contrast, or set it to 0",
        lambda c: c.contrast >= c.group_size,
    ),
    Rule(
        "RolloutConfig",
        "contrast 1 or odd",
        "halves of the best and the worst",
        "half of the images are the best, half the worst: use an even number from 2 on, or 0",
        lambda c: c.contrast % 2 == 1,
    ),
    Rule(
        "RolloutConfig",
        "contrast",
        "coarser_tails",
        "both say by which tails an image is scored: set contrast to 0 or leave coarser_tails empty",
        lambda c: c.contrast > 0 and bool(c.coarser_tails),
    ),
    Rule(
        "TrainConfig",
        "optimizer_step per_step",
        "updates_per_rollout above 1",
        "per_step makes an update after each branch step already: set updates_per_rollout to 1",
        lambda c: c.optim.step == "per_step" and c.pave.updates_per_rollout > 1,
    ),
    Rule(
        "TrainConfig",
        "optimizer_step per_step",
        "ratio clip or divergence mask",
        "each branch step is used for one update, in which the ratio is 1: set ratio to unclipped",
        lambda c: c.optim.step == "per_step" and c.pave.ratio != "unclipped",
    ),
    Rule(
        "TrainConfig",
        "ratio clip or divergence mask",
        "updates_per_rollout 1",
        "in the first update the ratio is 1, so that nothing would be limited: raise updates_per_rollout, or set ratio "
        "to unclipped",
        lambda c: c.pave.ratio != "unclipped" and c.pave.updates_per_rollout == 1 and c.optim.step == "accumulated",
    ),
    Rule(
        "TrainConfig",
        "step_weights",
        "another number of branch_steps",
        "write one weight for each branch step, or leave the field empty",
        lambda c: bool(c.pave.step_weights) and len(c.pave.step_weights) != len(c.rollout.branch_steps),
    ),
    Rule(
        "TrainConfig",
        "global_advantage",
        "candidates 0",
        "it compares with the running mean of the candidates' scores: set candidates (AdaGRPO uses 10), or switch "
        "global_advantage off",
        lambda c: c.pave.global_advantage and c.rollout.candidates == 0,
    ),
    Rule(
        "TrainConfig",
        "candidates",
        "more prompts_per_step",
        "a step's prompts are chosen among the candidates: raise candidates, or lower prompts_per_step",
        lambda c: 0 < c.rollout.candidates < c.run.prompts_per_step,
    ),
)


def check_combinations(config: Any) -> None:
    """ConfigError for the first rule of the class of `config` that it breaks, with the reason."""
    for rule in RULES:
        if rule.of == type(config).__name__ and rule.breaks(config):
            raise ConfigError(f"{rule.first} with {rule.second}: {rule.reason}")
