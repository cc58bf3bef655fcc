"""What a run came to, in words: summary.json's figures as a Markdown list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary_text(figures: Mapping[str, Any]) -> str:
    """The figures of summary.json for a person."""
    lines = [f"{figures['steps']} steps in {figures['train_seconds']:.0f} s"]
    lines += _guard_lines(figures["guard"]) if figures["guard"] else []
    if "reward_before" in figures:
        lines += _gain_lines(figures)
    else:
        first, last = figures["training_reward"]
        lines.append(f"reward of the training images: {_number(first)} in the first step, {_number(last)} in the last (their prompts differ)")
    if figures["zero_spread_groups"]:
        lines.append(f"{figures['zero_spread_groups']} of {figures['groups']} groups had no spread and taught nothing")
    for name, flat in figures["flat_groups"].items():
        if 2 * flat > figures["groups"]:
            lines.append(
                f"reward {name!r} gave all images of a group the same number in {flat} of {figures['groups']} groups: it hardly teaches; use one "
                "that grades more finely, or raise eta"
            )
    if figures["unscored_images"]:
        lines.append(f"{figures['unscored_images']} training images were left without a score; the log says why")
    if figures["skipped_steps"]:
        lines.append(f"{figures['skipped_steps']} steps were skipped: loss or gradient not finite")
    return "\n".join(f"- {line}" for line in [*lines, f"run folder: {figures['run_folder']}", f"LoRA: {figures['lora']}"])


def _guard_lines(guard: Mapping[str, Any]) -> list[str]:
    lines = []
    if guard["stopped"]:
        lines.append(f"the guard stopped the run: {guard['stopped']}")
    elif guard["alarms"]:
        lines.append(f"the guard raised {guard['alarms']} alarms, halved the learning rate and went back to the best weights each time")
    if guard["chosen"]:
        held_out = "" if guard["held_out"] is None else f", held-out reward {guard['base']:.4f} -> {guard['held_out']:.4f}"
        lines.append(f"the LoRA is that of step {guard['chosen']}, the best of {guard['checks']} measurements{held_out}")
    else:
        lines.append("no measured step was without an alarm: the LoRA that comes out changes nothing; train more slowly or loosen the thresholds")
    return lines


def _gain_lines(figures: Mapping[str, Any]) -> list[str]:
    gain = figures["reward_after"] - figures["reward_before"]
    error = figures["reward_se"]
    where = f"{figures['held_out_prompts']} held-out prompts" if figures["held_out_prompts"] else "the training prompts (none are held out)"
    lines = [
        f"reward on {where}, {figures['held_out_images']} images: {figures['reward_before']:.4f} -> {figures['reward_after']:.4f} (gain "
        f"{gain:+.4f} +- {error:.4f})",
    ]
    if len(figures["rewards"]) > 1:
        lines += [f"{name} alone: {r['before']:.4f} -> {r['after']:.4f} (+- {r['se']:.4f})" for name, r in figures["rewards"].items()]
    if figures["judge_before"] is not None:
        lines.append(f"judge, never trained on: {figures['judge_before']:.4f} -> {figures['judge_after']:.4f}")
    if gain <= 2 * error:
        lines.append("The gain is within the noise: train longer, raise learning_rate, or use a reward that grades these images more finely.")
    return lines


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
