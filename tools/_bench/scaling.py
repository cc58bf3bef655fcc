"""How the seconds of a training step, and of its floor, grow with one setting at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .settings import replaced
from .speed import measured
from .subject import Subject

AXES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "G": ("rollout.group_size", (4, 8, 12, 24, 48)),
    "T": ("rollout.steps", (8, 12, 16, 20, 28)),
    "S": ("pave.segments", ((), (2,), (2, 3), (2, 3, 4), (2, 3, 4, 5))),
    "K": ("rollout.branch_steps", ((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5))),
    "pixels": ("pixels", (1, 1.5, 2, 3)),  # of the subject's own side
}
"""{axis: (setting, values)}: each changes one setting of the subject."""


@dataclass(frozen=True)
class Point:
    """One measurement: seconds of a step, and of what it cannot do without."""

    axis: str
    value: Any  # of the setting
    x: float  # where it is drawn: the value, how many there are in it, or the pixels of a side
    step: float
    rollout: float
    update: float
    network: float  # the floor of both, the adapter in
    needed: float  # the same with decoding and rewards
    ratios: dict[str, float]

    def line(self) -> str:
        """The point as a line of a table."""
        name = f"{self.axis} {list(self.value) if isinstance(self.value, tuple) else self.value}"
        return (
            f"{name:<24} step {self.step:8.3f} s   needed {self.needed:8.3f}   network {self.network:8.3f}   rollout / "
            f"floor {self.ratios['rollout / floor']:.2f}   update / floor {self.ratios['update / floor']:.2f}"
        )


def measured_points(
    subject: Subject, *, only: Sequence[str] = (), most: int | None = None, pairs: int = 3
) -> Iterator[Point]:
    """The points of the axes `only` (none: all), of each the first `most`. ValueError for an unknown axis."""
    if unknown := set(only) - set(AXES):
        raise ValueError(f"{', '.join(sorted(unknown))}: choose among {', '.join(AXES)}")
    for axis in only or AXES:
        setting, values = AXES[axis]
        for value in values[:most]:
            if axis == "pixels":
                value = round(value * subject.pixels)
                record = measured(subject, subject.config, pairs=pairs, pixels=value, inside=0)
            else:
                record = measured(subject, replaced(subject.config, {setting: value}), pairs=pairs, inside=0)
            yield _point(axis, value, record)


def _point(axis: str, value: Any, record: dict[str, Any]) -> Point:
    phases = record["phases"]
    network = phases["rollout"]["floor_with_adapter"] + phases["update"]["floor"]
    return Point(
        axis=axis,
        value=value,
        x=len(value) if isinstance(value, tuple) else value,
        step=record["step_seconds"],
        rollout=phases["rollout"]["seconds"],
        update=phases["update"]["seconds"],
        network=network,
        needed=network + phases["decode"]["seconds"] + phases["reward"]["seconds"],
        ratios=record["ratios"],
    )
