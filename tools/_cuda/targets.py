"""What the measured plans must keep to.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .plans import PARTS

Record = dict[str, Any]
Plans = Mapping[tuple[str, str], Record]
"""{(part, plan): its record}"""


@dataclass(frozen=True)
class Target:
    """A bound on a value. value(plans) raises KeyError where what it needs was not measured."""

    text: str
    limit: float
    value: Callable[[Plans], float]
    at_least: bool = False
    needs_card: bool = True  # in miniature, seconds say nothing, and there is no memory to measure


def verdicts(found: Record) -> list[Record]:
    """For each target of a part that ran: its text, value and limit, and whether it is met; None: not measured."""
    plans = {(each["part"], each["plan"]): each for each in found["plans"]}
    miniature = found["host"].get("device_gb") is None
    return [_verdict(target, plans, miniature) for part in found["parts"] for target in targets_of(part)]


def _verdict(target: Target, plans: Plans, miniature: bool) -> Record:
    value = met = None
    if not (target.needs_card and miniature):
        try:
            value = target.value(plans)
            met = value >= target.limit if target.at_least else value <= target.limit
        except OutOfMemory:
            met = False
        except KeyError:
            pass
    return {"target": target.text, "value": value, "limit": target.limit, "met": met}


class OutOfMemory(Exception):  # noqa: N818 - what a plan ended with, not a fault of the check
    """The plan ran out of memory."""


def targets_of(part: str) -> list[Target]:
    """The targets of a part."""
    plans = {plan.name: plan for each in PARTS if each.name == part for plan in each.plans}
    if not plans:
        return []
    first, plain = (part, "checkpointed"), (part, "plain")
    made = [
        Target(f"{part}, {name}: GB at most", plan.target_gb, lambda plans, name=name: peak(plans[part, name]))
        for name, plan in plans.items()
        if plan.target_gb
    ]
    made += [
        Target(f"{part}: rollout / bare network", 1.10, lambda plans: rollout_ratio(plans[first])),
        Target(
            f"{part}: checkpointed update / plain",
            1.8,
            lambda plans: seconds(plans[first], "update") / seconds(plans[plain], "update"),
        ),
        Target(
            f"{part}: cosine of the gradients, plain and checkpointed",
            0.999,
            lambda plans: plans[plain]["gradient"]["cosine"],
            at_least=True,
            needs_card=False,
        ),
    ]
    if "groups" in plans["checkpointed"].extras:
        made += [
            Target(
                f"{part}: update at several G, most {what} / least",
                1.05,
                lambda plans, key=key: spread(plans[first], key),
            )
            for what, key in (("GB", "allocated_gb"), ("seconds", "seconds"))
        ]
    return made


def peak(plan: Record) -> float:
    """The most GB allocated in any phase. KeyError where there is no memory to measure, or the plan did not pass."""
    if plan["status"] == "out of memory":
        raise OutOfMemory
    values = [phase["allocated_gb"] for phase in plan["phases"].values()]
    if plan["status"] != "passed" or None in values:
        raise KeyError("allocated_gb")
    return max(values)


def seconds(plan: Record, phase: str) -> float:
    """The seconds of a phase. KeyError if the plan did not come to it."""
    return plan["phases"][phase]["seconds"]


def rollout_ratio(plan: Record) -> float:
    """The seconds of the rollout by those of its network calls alone."""
    return plan["rollout_seconds"] / plan["bare_seconds"]


def spread(plan: Record, key: str) -> float:
    """The largest value of `key` among the updates at several G, by the smallest."""
    values = [each[key] for each in plan["groups"].values()]
    return max(values) / min(values)
