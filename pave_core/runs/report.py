"""The result of a run, as numbers (summary.json) and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ..evaluation.gain import Comparison, Gain
from ..evaluation.guard import Reading
from ..training.steering import Order

DONE: Mapping[Order, str] = {
    "pause": "paused",
    "go on": "went on",
    "save": "saved",
    "evaluate": "evaluated",
    "halve": "learning rate halved",
    "finish": "stopped and finished",
}
"""What was done, by order."""


@dataclass(frozen=True)
class GuardSummary:
    """What the guard did in a run."""

    stopped: str | None  # why it ended the run
    alarms: int  # readings with an alarm
    checks: int  # readings
    chosen: int  # the step whose weights are the run's
    base: float | None  # the guard's reward of the base model
    held_out: float | None  # the guard's reward of the chosen step

    @classmethod
    def of(cls, readings: Sequence[Reading], *, stopped: str | None, chosen: int, base: float | None) -> GuardSummary:
        """The summary of a run's readings; the other arguments are the fields."""
        held_out = next((reading.held_out for reading in readings if reading.step == chosen), None)
        alarms = sum(bool(reading.alarms) for reading in readings)
        return cls(stopped, alarms, len(readings), chosen, base, held_out)


@dataclass(frozen=True)
class RunSummary:
    """The numbers of a run. The counts are sums over its steps."""

    steps: int
    train_seconds: float
    training_reward: tuple[float | None, float | None]  # mean in the first and the last step, whose prompts differ
    groups: int
    zero_spread_groups: int
    flat_groups: Mapping[str, int]  # by reward
    unscored_images: int
    skipped_steps: int
    held_out_prompts: int
    comparison: Comparison | None  # None where nothing was measured
    guard: GuardSummary | None
    stopped: str | None = None  # why it has ended before its last step
    steered: Sequence[Mapping[str, Any]] = ()  # what was ordered, as in the recipe
    files: Mapping[str, str] = field(default_factory=dict)  # run_folder, lora, curve, grid

    @classmethod
    def of(cls, history: Sequence[Mapping[str, Any]], **others: Any) -> RunSummary:
        """The summary of `history`, the records of the steps (StepMetrics.to_dict); `others` are the other fields."""
        names = dict.fromkeys(name for record in history for name in record.get("flat_groups", ()))
        return cls(
            training_reward=(history[0]["reward_mean"], history[-1]["reward_mean"]) if history else (None, None),
            groups=sum(record["groups"] for record in history),
            zero_spread_groups=sum(record["zero_spread_groups"] for record in history),
            flat_groups={name: sum(r.get("flat_groups", {}).get(name, 0) for r in history) for name in names},
            unscored_images=sum(record.get("unscored", 0) for record in history),
            skipped_steps=sum(record["skipped"] for record in history),
            **others,
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of summary.json."""
        plain = {
            name: value for name, value in vars(self).items() if name not in ("comparison", "guard", "files", "steered")
        }
        plain |= {"steered": list(self.steered)} if self.steered else {}
        compared = {} if self.comparison is None else self.comparison.to_dict()
        guard = None if self.guard is None else vars(self.guard)
        return compared | plain | {"guard": guard, **self.files}

    def line(self) -> str:
        """The result in one line."""
        compared = self.comparison
        gain = "" if compared is None or not compared.scored else f", gain {_gain(compared.total)}"
        return f"finished: {counted(self.steps, 'step')}{gain}, LoRA: {self.files['lora']}"

    def text(self) -> str:
        """The summary in words, as a Markdown list."""
        lines = [f"{counted(self.steps, 'step')} in {self.train_seconds:.0f} s"]
        lines += [f"steered by hand: {steered_text(self.steered)}"] if self.steered else []
        lines += [] if self.guard is None else _guard_lines(self.guard)
        if self.comparison is None:
            first, last = map(_number, self.training_reward)
            lines.append(
                f"reward of the training images: {first} in the first step, {last} in the last (with other prompts)"
            )
        else:
            lines += _gain_lines(self.comparison, self.held_out_prompts)
        if self.zero_spread_groups:
            lines.append(f"{self.zero_spread_groups} of {self.groups} groups had no spread and taught nothing")
        for name, flat in self.flat_groups.items():
            if 2 * flat > self.groups:
                lines.append(
                    f"reward {name!r} gave all images of a group the same number in {flat} of {self.groups} groups: it "
                    "hardly teaches; use one that grades more finely, or raise eta"
                )
        if self.unscored_images:
            lines.append(f"{self.unscored_images} training images were left without a score; the log says why")
        if self.skipped_steps:
            lines.append(f"skipped, because loss or gradient was not finite: {counted(self.skipped_steps, 'step')}")
        lines += [f"run folder: {self.files['run_folder']}", f"LoRA: {self.files['lora']}"]
        return "\n".join(f"- {line}" for line in lines)


def counted(number: int, what: str) -> str:
    """(2, "step") -> "2 steps"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def steered_text(steered: Iterable[Mapping[str, Any]]) -> str:
    """What was ordered, in words: "after step 3 paused, went on; after step 5 learning rate halved"."""
    by_step: dict[int, list[str]] = {}
    for entry in steered:
        by_step.setdefault(entry["step"], []).append(DONE[entry["order"]])
    return "; ".join(f"after step {step} {', '.join(done)}" for step, done in by_step.items())


def _guard_lines(guard: GuardSummary) -> list[str]:
    lines = []
    if guard.stopped:
        lines.append(f"the guard stopped the run: {guard.stopped}")
    elif guard.alarms:
        lines.append(
            f"the guard raised {counted(guard.alarms, 'alarm')}, and each time halved the learning rate and went back "
            "to the best weights"
        )
    if guard.chosen:
        measured = guard.held_out is not None and guard.base is not None
        held_out = f", the guard's reward {guard.base:.4f} -> {guard.held_out:.4f}" if measured else ""
        lines.append(f"the LoRA is that of step {guard.chosen}, the best of {guard.checks} measurements{held_out}")
    else:
        lines.append(
            "every measured step had an alarm: the LoRA is the untrained one and changes nothing; train more slowly or "
            "loosen the thresholds"
        )
    return lines


def _gain_lines(comparison: Comparison, held_out_prompts: int) -> list[str]:
    total = comparison.total
    where = (
        counted(held_out_prompts, "held-out prompt") if held_out_prompts else "the training prompts (none are held out)"
    )
    of = f"reward on {where}, {comparison.images} images"
    if comparison.scored:
        lines = [f"{of}: {total.before:.4f} -> {total.after:.4f} (gain {_gain(total)})"]
    else:
        lines = [f"{of}: not scored. A person is asked about training images alone, and no taste was learnt yet"]
    if len(comparison.rewards) > 1:
        lines += [
            f"{name} alone: {r.before:.4f} -> {r.after:.4f} (+- {r.se:.4f})"
            for name, r in comparison.rewards.items()
            if isfinite(r.after - r.before)
        ]
    if comparison.judge is not None:
        lines.append("judge, never trained on: {:.4f} -> {:.4f}".format(*comparison.judge))
    changed = None if comparison.change is None else comparison.change.text()
    lines += [] if changed is None else [changed]
    if comparison.scored and total.after - total.before <= 2 * total.se:
        lines.append(
            "The gain is within the noise: train longer, raise learning_rate, or use a reward that grades these images "
            "more finely."
        )
    return lines


def _gain(gain: Gain) -> str:
    return f"{gain.after - gain.before:+.4f} +- {gain.se:.4f}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
