"""docs/OPTIONS.md: the options of the method, which exclude each other, and the presets. Needs the core alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from pave_core.config.combinations import RULES, Rule, as_text
from pave_core.config.fields import Shown, widgets_of
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.options import OPTIONS
from pave_core.config.presets import ABOUT, PRESETS, changes
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig

NODES = {RolloutConfig: "Pave Rollout Settings", PaveConfig: "Pave Objective", OptimConfig: "Pave Optimizer"}
INTRODUCTION = """# The whole algorithm

Written by `python tools/make_help.py` from `pave_core/config/`.

| symbol | meaning |
| --- | --- |
| sigma, T | the noise level, from 1 (noise) to 0 (image) in T steps |
| x, v, dt | an image on its way; the network's velocity dx/dsigma; sigma' - sigma < 0, the step from sigma to sigma' |
| K | the denoising steps that are noisy and trained on |
| G, y_i, p(y_i) | the images of a group; where a noisy step brought image i; the density of that |
| r_i, A_i | the reward of image i and its advantage |
| S, L_n | the segments; the loss of n sub-steps in place of a step |

Every option is a setting of *Pave Rollout Settings*, *Pave Objective* or *Pave Optimizer*; `prompts_per_step` is one of
the training nodes. A preset sets several by the name of a method.
"""
OPTIONS_HEAD = """
## The options

| option | node | default | what it computes | source | where it does nothing |
| --- | --- | --- | --- | --- | --- |
"""
MATRIX_HEAD = """
## What excludes what

A number is the rule by which some values of two options exclude each other. Pairs without one train with all their
values. What is excluded is refused before a graph runs, with the reason.
"""
BESIDES = """
Rewards that may abstain and resumed runs go with every option. A loop of step nodes gives the LoRA of *Pave Train* bit
for bit with every option but `optimizer_step` *per_step*; `candidates` need *Pave Candidates*, a score and *Pave Choose
Prompts* before *Pave Rollout*, `contrast` *Pave Contrast* and a second score after it. There are at least as many
training prompts as `candidates`. Branch steps lie before the last of `steps`, and `decay_steps` are not below the
optimizer steps of the run.
"""
PRESETS_HEAD = """
## The presets

What is not named is as in the first. A LoRA is trained with each, as one card holds no more; its rank and learning rate
are those of the released code's LoRA mode where nothing is said.

| preset | what it is | settings | source | what differs from the original |
| --- | --- | --- | --- | --- |
"""


def options_page() -> str:
    """The text of docs/OPTIONS.md."""
    return (
        f"{INTRODUCTION}{OPTIONS_HEAD}{_options()}{MATRIX_HEAD}{_matrix()}{_rules()}{BESIDES}{PRESETS_HEAD}{_presets()}"
    )


def excluded(first: str, second: str) -> list[int]:
    """The numbers of the rules between two options, counted from 1."""
    return [number for number, rule in enumerate(RULES, 1) if {rule.first, rule.second} == {first, second}]


def rows(lines: Iterable[Iterable[str]]) -> str:
    """Lines of a Markdown table."""
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def preset_list() -> str:
    """The names of the presets with what they are, as a Markdown table."""
    return rows([("preset", "what it is"), ("---",) * 2, *((name, about.what) for name, about in ABOUT.items())])


def _options() -> str:
    found: list[tuple[str, ...]] = []
    for name, option in OPTIONS.items():
        node, widget = _setting(name)
        found.append((f"`{name}`", node, as_text(widget.default), option.formula, option.source, option.limit))
    return rows(found)


def _setting(name: str) -> tuple[str, Shown]:
    """(the node that has a widget, the widget)."""
    nodes = {**NODES, RunConfig: "the training nodes"}
    return next((node, widgets_of(config)[name]) for config, node in nodes.items() if name in widgets_of(config))


def _matrix() -> str:
    """The rules by pairs of options, as a table of those that have any."""
    found = {(column, row): excluded(column, row) for column, row in combinations(OPTIONS, 2)}
    columns, lines = ([name for name in OPTIONS if any(found[p] for p in found if p[i] == name)] for i in (0, 1))
    head = [("", *(f"`{name}`" for name in columns)), ("---",) * (len(columns) + 1)]
    body = [(f"`{row}`", *(", ".join(map(str, found.get((column, row), ()))) for column in columns)) for row in lines]
    free = [f"`{name}`" for name in OPTIONS if not any(name in (rule.first, rule.second) for rule in RULES)]
    return f"\n{rows([*head, *body])}\nNo rule is about {', '.join(free)}: they go with everything.\n"


def _rules() -> str:
    def line(number: int, rule: Rule) -> tuple[str, ...]:
        return str(number), f"`{rule.first}`", f"`{rule.second}`", rule.where, rule.reason

    lines = [line(number, rule) for number, rule in enumerate(RULES, 1)]
    return "\n" + rows([("rule", "option", "excludes", "where", "why, and what to do"), ("---",) * 5, *lines])


def _presets() -> str:
    first = next(iter(PRESETS.values()))
    lines = []
    for name, config in PRESETS.items():
        about = ABOUT[name]
        set_apart: Mapping[str, Any] = changes(config, TrainConfig() if config is first else first)
        said = "; ".join(f"`{key}` {as_text(value)}" for key, (value, _) in set_apart.items())
        lines.append((name, about.what, said, about.source, about.differs))
    return rows(lines)
