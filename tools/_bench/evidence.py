"""What the runs of learning say: a table and sentences for each comparison.

A claim is a sentence with its interval and its command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from statistics import mean

from .experiments import COMPARISONS, EQUAL_RATE, EXPERIMENTS, Comparison
from .markdown import table
from .results import Record, Results, at_equal_images, at_equal_seconds, gains, seconds_ratio
from .statistics import Interval, interval

Runs = Mapping[int, Record]
DIFFERENCES: dict[str, Callable[[Runs, Runs, str], Interval | None]] = {
    "images": at_equal_images,
    "seconds": at_equal_seconds,
}
"""{what both have had the same of: the paired difference}"""
SCORES = ("reward", "adherence")


def measured_comparisons(results: Results) -> list[Comparison]:
    """The comparisons of which the first experiment and another have been run."""
    return [each for each in COMPARISONS if len(run_of(each, results)) > 1]


def run_of(comparison: Comparison, results: Results) -> dict[str, Runs]:
    """{experiment: its runs by seed} of a comparison, the first of them first; none if that has not been run."""
    found = {name: results.runs(EXPERIMENTS[name]) for name in comparison.experiments}
    first = comparison.experiments[0]
    return {name: runs for name, runs in found.items() if runs} if found[first] else {}


def number(score: str, value: float) -> str:
    """A difference of a score: adherence in points of a hundred, the reward in standard deviations."""
    return f"{100 * value:+.1f}" if score == "adherence" else f"{value:+.3f}"


def shown(score: str, found: Interval | None) -> str:
    """A mean with its interval."""
    if found is None:
        return "-"
    if found.n < 2:
        return number(score, found.mean)
    return f"{number(score, found.mean)} [{number(score, found.low)}, {number(score, found.high)}]"


def times(found: Interval) -> str:
    """A ratio with its interval."""
    return f"{found.mean:.2f}" if found.n < 2 else f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def table_of_learning(comparison: Comparison, results: Results) -> str:
    """A section: the table of a comparison, and a sentence for each experiment but the first."""
    runs = run_of(comparison, results)
    at_equal_rate = _at_equal_rate(comparison, results)
    first, *others = runs
    head = ["", "learning rate", "seeds", "seconds", "of the first's", *(f"{score} gained" for score in SCORES)]
    head += [f"Δ {score}, {where}" for score, where, _ in _differences(first, first, runs, at_equal_rate)]
    rows = [head]
    for name, of_name in runs.items():
        row = [name, f"{results.learning_rate(EXPERIMENTS[name]):g}", str(len(of_name))]
        cost = seconds_ratio(of_name, runs[first])
        row += [f"{mean(record['seconds'] for record in of_name.values()):.1f}", "-" if cost is None else times(cost)]
        row += [shown(score, interval(gains(of_name, score))) for score in SCORES]
        found = _differences(name, first, runs, at_equal_rate)
        row += [shown(score, each) if name != first else "" for score, _, each in found]
        rows.append(row)
    claims = [f"- {claim(name, first, runs, at_equal_rate)}" for name in others]
    command = f"`python tools/bench.py learning --only '{comparison.name}'`"
    picture = f"![{comparison.title}]({picture_of(comparison)})"
    return "\n\n".join([f"### {comparison.title}", table(rows), "\n".join(claims), command, picture])


def _at_equal_rate(comparison: Comparison, results: Results) -> dict[str, Runs]:
    """{experiment: its runs by seed at EQUAL_RATE}, if a comparison looks at them."""
    if not comparison.equal_rate:
        return {}
    return {name: results.runs(EXPERIMENTS[name], EQUAL_RATE) for name in comparison.experiments}


def _differences(
    name: str, first: str, runs: Mapping[str, Runs], at_equal_rate: Mapping[str, Runs]
) -> list[tuple[str, str, Interval | None]]:
    """(score, what both have alike, the paired difference of an experiment from the first)."""
    found = [
        (score, f"same {what}", difference(runs[name], runs[first], score))
        for what, difference in DIFFERENCES.items()
        for score in SCORES
    ]
    if at_equal_rate:
        own, other = at_equal_rate[name], at_equal_rate[first]
        found += [(score, f"both at {EQUAL_RATE:g}", at_equal_images(own, other, score)) for score in SCORES]
    return found


def claim(name: str, first: str, runs: Mapping[str, Runs], at_equal_rate: Mapping[str, Runs] | None = None) -> str:
    """What was shown of an experiment against the first, in a sentence."""
    said = [
        f"{score} {each.says} {'after the' if where.startswith('same') else 'with'} {where}, {shown(score, each)}"
        for score, where, each in _differences(name, first, runs, at_equal_rate or {})
        if each and each.says
    ]
    seeds = len(runs[name].keys() & runs[first].keys())
    cost = seconds_ratio(runs[name], runs[first])
    at = f"{seeds} seeds" + ("" if cost is None else f", {times(cost)} times the seconds")
    return f"{name} against {first}, {at}: {'; '.join(said) or 'no difference is shown'}."


def picture_of(comparison: Comparison) -> str:
    """The name of a comparison's plot."""
    return f"bench_learning_{re.sub('[^a-z0-9]+', '_', comparison.name.lower()).strip('_')}.png"
