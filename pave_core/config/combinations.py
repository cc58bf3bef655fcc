"""Which settings exclude each other, and why.

A rule is about two settings of one dataclass, which checks it when it is made, or of two, which TrainConfig checks. All
other pairs train: tests/core/training/test_combinations.py tries each. tools/make_help.py prints the rules into
docs/OPTIONS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .fields import shown, widgets_of


@dataclass(frozen=True)
class Rule:
    """Two settings that exclude each other where `breaks` says so of a config."""

    of: str  # the dataclass that checks it
    first: str  # the setting that is at fault
    second: str  # the setting with which it cannot be
    where: str  # which values of both, in words
    reason: str  # why, and what to do
    breaks: Callable[[Any], bool]

    def text(self, config: Any) -> str:
        """What to say of a config that breaks it: setting, value, reason and remedy."""
        values = settings_of(config)
        first, second = (as_text(values[name]) for name in (self.first, self.second))
        return f"{self.first}: {first} with {self.second} {second}: {self.reason}"


def _room(rollout: Any) -> int:
    """The denoising steps by which the branch steps can move on."""
    return rollout.steps - 2 - max(rollout.branch_steps)


RULES: tuple[Rule, ...] = (
    Rule(
        "RolloutConfig",
        "kernel",
        "eta",
        "cps, eta above 1",
        "its noise is sin(eta pi / 2), which falls again above 1: lower eta to 1 or less, or choose another kernel",
        lambda c: c.kernel == "cps" and c.eta > 1,
    ),
    Rule(
        "RolloutConfig",
        "window_every",
        "branch_steps",
        "above 0, up to the last but one step",
        "they cannot move on: set window_every to 0, lower the branch steps or raise steps",
        lambda c: c.window_every > 0 and _room(c) == 0,
    ),
    Rule(
        "RolloutConfig",
        "window_stride",
        "branch_steps",
        "window_every above 0, and a stride past the last step",
        "they would come back to where they were: lower window_stride or the branch steps, or raise steps",
        lambda c: c.window_every > 0 and 0 < _room(c) < c.window_stride,
    ),
    Rule(
        "RolloutConfig",
        "contrast",
        "group_size",
        "above 0, a group that is not larger",
        "nothing would be left out of a group: lower contrast, set it to 0, or raise group_size",
        lambda c: c.contrast >= c.group_size,
    ),
    Rule(
        "RolloutConfig",
        "contrast",
        "coarser_tails",
        "above 0, any coarser tails",
        "both say by which tails an image is scored: set contrast to 0 or leave coarser_tails empty",
        lambda c: c.contrast > 0 and bool(c.coarser_tails),
    ),
    Rule(
        "PaveConfig",
        "segment_weights",
        "segments",
        "another number of weights than of segments",
        "a weight belongs to a segment: write one for each, or leave segment_weights empty",
        lambda c: bool(c.segment_weights) and len(c.segment_weights) != len(c.segments),
    ),
    Rule(
        "PaveConfig",
        "plain_weight",
        "segments",
        "0, empty",
        "the loss would have no term: raise plain_weight, or write segments",
        lambda c: c.plain_weight == 0 and not c.segments,
    ),
    Rule(
        "TrainConfig",
        "sample_ahead",
        "optimizer_step",
        "on, per_step",
        "per_step uses each branch step with a ratio of 1, which images of earlier weights do not have: set "
        "optimizer_step to accumulated, or switch sample_ahead off",
        lambda c: c.run.sample_ahead and c.optim.step == "per_step",
    ),
    Rule(
        "TrainConfig",
        "optimizer_step",
        "ratio",
        "per_step, clip or divergence mask",
        "per_step uses each branch step for one update, with a ratio of 1 as in the released code: set ratio to "
        "unclipped, or optimizer_step to accumulated",
        lambda c: c.optim.step == "per_step" and c.pave.ratio != "unclipped",
    ),
    Rule(
        "TrainConfig",
        "optimizer_step",
        "updates_per_rollout",
        "per_step, above 1",
        "per_step makes an update after each branch step already: set updates_per_rollout to 1, or optimizer_step to "
        "accumulated",
        lambda c: c.optim.step == "per_step" and c.pave.updates_per_rollout > 1,
    ),
    Rule(
        "TrainConfig",
        "ratio",
        "updates_per_rollout",
        "clip or divergence mask, 1",
        "in the first update the ratio is 1, so that nothing would be limited: raise updates_per_rollout, or set ratio "
        "to unclipped",
        lambda c: (
            c.pave.ratio != "unclipped"
            and c.pave.updates_per_rollout == 1
            and c.optim.step == "accumulated"
            and not c.run.sample_ahead
        ),
    ),
    Rule(
        "TrainConfig",
        "sample_ahead",
        "ratio",
        "on, unclipped",
        "its images are drawn by weights that are one update old, and nothing would bound how much they are followed: "
        "set ratio to clip or divergence mask, or switch sample_ahead off",
        lambda c: c.run.sample_ahead and c.pave.ratio == "unclipped" and c.optim.step == "accumulated",
    ),
    Rule(
        "TrainConfig",
        "sample_ahead",
        "global_advantage",
        "on, on",
        "the running mean is that of candidates, whose scores are not there yet when the next images are drawn: switch "
        "global_advantage or sample_ahead off",
        lambda c: c.run.sample_ahead and c.pave.global_advantage,
    ),
    Rule(
        "TrainConfig",
        "sample_ahead",
        "candidates",
        "on, above 0",
        "the next step's prompts are chosen by scores that are not there yet: set candidates to 0, or switch "
        "sample_ahead off",
        lambda c: c.run.sample_ahead and c.rollout.candidates > 0,
    ),
    Rule(
        "TrainConfig",
        "sample_ahead",
        "contrast",
        "on, above 0",
        "which images are finished is known only when they are judged: set contrast to 0, or switch sample_ahead off",
        lambda c: c.run.sample_ahead and c.rollout.contrast > 0,
    ),
    Rule(
        "TrainConfig",
        "step_weights",
        "branch_steps",
        "another number of weights than of branch steps",
        "a weight belongs to a branch step: write one for each, or leave step_weights empty",
        lambda c: bool(c.pave.step_weights) and len(c.pave.step_weights) != len(c.rollout.branch_steps),
    ),
    Rule(
        "TrainConfig",
        "global_advantage",
        "candidates",
        "on, 0",
        "it compares with the running mean of the candidates' scores: set candidates (AdaGRPO uses 10), or switch "
        "global_advantage off",
        lambda c: c.pave.global_advantage and c.rollout.candidates == 0,
    ),
    Rule(
        "TrainConfig",
        "candidates",
        "prompts_per_step",
        "above 0, more prompts in a step",
        "a step's prompts are chosen among the candidates: raise candidates, set it to 0, or lower prompts_per_step",
        lambda c: 0 < c.rollout.candidates < c.run.prompts_per_step,
    ),
)


def broken(config: Any) -> list[Rule]:
    """The rules of the class of `config` that it breaks."""
    return [rule for rule in RULES if rule.of == type(config).__name__ and rule.breaks(config)]


def check_combinations(config: Any) -> None:
    """ConfigError for the first rule of the class of `config` that it breaks, with the reason."""
    for rule in broken(config):
        raise ConfigError(rule.text(config))


def settings_of(config: Any) -> dict[str, Any]:
    """{widget: value} of a config, or of the configs in it."""
    if widgets_of(type(config)):
        return shown(config)
    return {name: value for part in vars(config).values() for name, value in shown(part).items()}


def as_text(value: Any) -> str:
    """The value of a widget, as messages and docs write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value) or "empty"
