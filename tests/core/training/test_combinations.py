"""Every pair of values of two options trains, or is refused with the reason of a rule: what docs/OPTIONS.md says."""

import math
from itertools import combinations, islice, product
from typing import Any

import pytest

from _options import options_page
from _toy import Shy, ToyTraining, same, weights, without_clock
from pave_core.config.combinations import RULES, Rule, broken
from pave_core.config.options import OPTIONS
from pave_core.config.presets import PRESETS, with_values
from pave_core.config.train import TrainConfig
from pave_core.errors import ConfigError
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint


def table(column: str, page: str) -> list[list[str]]:
    """The cells of the first Markdown table with that column, without the line below its head."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if f"| {column} |" in line and lines[i + 1].startswith("| ---"))
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    rows = [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines[start:end]]
    return [rows[0], *rows[2:]]


def printed() -> dict[frozenset[str], list[str]]:
    """{two options: the reasons with which the page says that they exclude each other}."""
    page = options_page()
    reasons = {row[0]: row[4] for row in table("rule", page)}
    (_, *columns), *rows = table("`kernel`", page)
    return {
        frozenset((row, column)): [reasons[number] for number in cell.split(", ") if number]
        for row, *cells in rows
        for column, cell in zip(columns, cells, strict=True)
    }


PRINTED = printed()
DEFAULTS = {name: next(iter(option.values)) for name, option in OPTIONS.items()}
TOY = {"steps": 6, "rank": 2, "alpha": 4, "targets": "all linear", "learning_rate": 5e-3} | DEFAULTS
SINGLE = [(name, value) for name in OPTIONS for value in OPTIONS[name].values if name != "group_size"]


def made(*chosen: tuple[str, Any]) -> TrainConfig:
    """The toy's config with some options at some of their values, and what else these values need."""
    needed: dict[str, Any] = {}
    for name, value in chosen:
        needed |= OPTIONS[name].values[value]
    return with_values(TrainConfig(), TOY | needed | dict(chosen))


def refusal(*chosen: tuple[str, Any]) -> str | None:
    """The message with which these values are refused."""
    try:
        made(*chosen)
    except ConfigError as error:
        return str(error)
    return None


def train_a_step(config: TrainConfig, reward: Any = None) -> None:
    training = ToyTraining(config, reward)
    before = weights(training.policy)
    step = next(training.stream())
    assert not step.skipped
    assert math.isfinite(step.loss)
    assert 0 < step.grad_norm < math.inf
    assert not same(before, weights(training.policy))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), combinations(OPTIONS, 2))
def test_a_pair_trains_or_is_refused_as_the_page_says(first, second):
    reasons = set(PRINTED.get(frozenset((first, second)), ()))
    heard = set()
    for a, b in product(OPTIONS[first].values, OPTIONS[second].values):
        message = refusal((first, a), (second, b))
        if message is None:
            train_a_step(made((first, a), (second, b)))
        else:
            assert reasons, f"the page has no rule for this: {message}"
            heard |= {reason for reason in reasons if message.endswith(reason)}
    assert heard == reasons, "the page has a rule that no pair of values breaks"


@pytest.mark.parametrize(("name", "value"), SINGLE)
def test_an_option_trains_with_a_reward_that_may_abstain(name, value):
    of_large_groups = with_values(made((name, value)), {"group_size": 8})  # two of each are to have a score
    train_a_step(of_large_groups, Shy())


@pytest.mark.parametrize(("name", "value"), SINGLE)
def test_a_run_resumes_bit_for_bit_with_an_option(tmp_path, name, value):
    config, file = made((name, value)), tmp_path / "checkpoint.safetensors"
    whole, first, second = (ToyTraining(config) for _ in range(3))
    records = without_clock(list(islice(whole.stream(), 3)))
    assert without_clock(list(islice(first.stream(), 2))) == records[:2]
    save_checkpoint(file, first.state.capture({}))
    second.state.restore(load_checkpoint(file))
    assert without_clock([next(second.stream())]) == records[2:]
    ours, theirs = second.state.capture({}), whole.state.capture({})
    assert same(ours.adapter, theirs.adapter)
    assert same(ours.average, theirs.average)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.first}-{rule.second}")
def test_a_refusal_names_both_settings_with_their_values_and_the_remedy(rule: Rule):
    pairs = product(OPTIONS[rule.first].values, OPTIONS[rule.second].values)
    messages = [refusal((rule.first, a), (rule.second, b)) for a, b in pairs]
    (message, *_) = (message for message in messages if message and message.endswith(rule.reason))
    setting, _, rest = message.partition(": ")
    assert setting == rule.first
    assert f" with {rule.second} " in rest
    assert rule.second in rule.reason.partition(": ")[2] or rule.first in rule.reason.partition(": ")[2]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_breaks_no_rule(name):
    config = PRESETS[name]
    assert [rule for part in (config, config.rollout, config.pave) for rule in broken(part)] == []
