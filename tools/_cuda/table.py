"""The report as a table.

Standard library only.
"""

from __future__ import annotations

from typing import Any

from .plans import PARTS
from .targets import rollout_ratio

PHASES = ("load", "encode", "check", "rollout", "decode", "reward", "update", "optimizer")

TURNS = {plan.name for part in PARTS for plan in part.plans if "turns" in plan.extras}


def table(found: dict[str, Any]) -> str:
    """Seconds and GB of each plan by phase, then the targets. GB are the most allocated, and the most reserved."""
    host = found["host"]
    lines = []
    if host:
        size = "" if host["device_gb"] is None else f" ({host['device_gb']:g} GB)"
        lines = [f"{host['device']}{size}, ComfyUI {host['comfyui']}, torch {host['torch']}, {found['seconds']:.0f} s"]
        if host["device_gb"] is None:
            lines += ["In miniature: there is no card. The seconds and the ratios say nothing."]
    for part in PARTS:
        if part.name in found["parts"]:
            lines += ["", *_part(part.name, part.title, found)]
    lines += ["", f"{'target':<68}{'value':>9}{'limit':>9}"]
    for each in found["targets"]:
        shown = "-" if each["value"] is None else f"{each['value']:.4g}"
        met = {None: "not measured", True: "met", False: "MISSED"}[each["met"]]
        lines.append(f"{each['target']:<68}{shown:>9}{each['limit']:>9g}   {met}")
    return "\n".join(lines)


def _part(name: str, title: str, found: dict[str, Any]) -> list[str]:
    """The lines of a part."""
    part = found["parts"][name]
    lines = [f"{name}: {title}: {part['status']}" + (f", {part['reason']}" if "reason" in part else "")]
    plans = [each for each in found["plans"] if each["part"] == name]
    if plans:
        lines.append(f"  {'':<24}" + "".join(f"{phase:>12}" for phase in PHASES) + f"{'peak':>10}{'predicted':>11}")
    for plan in plans:
        if plan["status"] != "passed":
            where = f" in {plan['phase']}" if "phase" in plan else ""
            lines.append(f"  {plan['plan']}: {plan['status']}{where}, {plan['reason']}")
        if plan["phases"]:
            lines += _plan(plan)
    if name == "quickstart" and part["status"] == "passed":
        lines.append(
            f"  {part['steps']} steps in {part['train_seconds']:.0f} s; reward {part['reward_before']:.4f} -> "
            f"{part['reward_after']:.4f}, standard error {part['reward_se']:.4f}"
        )
    return lines


def _plan(plan: dict[str, Any]) -> list[str]:
    """The lines of a plan: seconds, GB, and what was compared."""
    phases = [plan["phases"].get(name) for name in PHASES]
    seconds = "".join(f"{'-' if each is None else format(each['seconds'], '.3f'):>12}" for each in phases)
    lines = [f"  {plan['plan']:<20}{'s':<4}{seconds}"]
    peaks = [each["allocated_gb"] for each in plan["phases"].values()]
    if None not in peaks:
        memory = "".join(f"{'-' if each is None else _memory(each):>12}" for each in phases)
        predicted = plan.get("predicted_gb")
        shown = "-" if predicted is None else f"{predicted:.1f}"
        lines.append(f"  {'':<20}{'GB':<4}{memory}{max(peaks):>10.2f}{shown:>11}")
    notes = []
    if "bare_seconds" in plan:
        notes.append(f"rollout / bare network {rollout_ratio(plan):.2f}")
    if "gradient" in plan:
        gradient = plan["gradient"]
        notes.append(
            f"gradient against the first plan's: cosine {gradient['cosine']:.6f}, largest relative difference "
            f"{gradient['max_relative_difference']:.1e}"
        )
    if "batches" in plan:
        batches = plan["batches"]
        notes.append(f"in the end {batches['rollout']} images in a network call, {batches['decode']} in the VAE")
    if plan["plan"] in TURNS:
        for phase in ("encode", "rollout", "decode", "update"):
            resident = plan["phases"].get(phase, {}).get("resident_gb") or {}
            shown = ", ".join(f"{name} {size:.1f} GB" for name, size in resident.items())
            notes += [f"on the device after {phase}: {shown}"] if shown else []
    if "check" in plan:
        notes.append(plan["check"])
    for G, each in plan.get("groups", {}).items():
        memory = "" if each["allocated_gb"] is None else f", {each['allocated_gb']:.2f} GB"
        notes.append(f"update at G = {G}: {each['seconds']:.3f} s{memory}")
    return lines + [f"  {'':<24}{note}" for note in notes]


def _memory(phase: dict[str, Any]) -> str:
    reserved = "" if phase["reserved_gb"] is None else f"/{phase['reserved_gb']:.1f}"
    return f"{phase['allocated_gb']:.1f}{reserved}"
