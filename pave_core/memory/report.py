"""The prediction in words: a line for the log, a page for the node."""

from __future__ import annotations

from dataclasses import dataclass

from .needs import Needs
from .pace import Duration, in_time

GB = 2**30


@dataclass(frozen=True)
class Preflight:
    """What a run needs, and what would make it fit.

    changes: the settings with which everything fits without offloading more than was asked for; None: there are none.
    remarks: what the numbers leave out. duration: of the whole run; None where that is not asked for, or not known.
    """

    needs: Needs
    changes: list[str] | None
    remarks: tuple[str, ...] = ()
    duration: Duration | None = None

    @property
    def fits(self) -> bool:
        """Whether the run can be made, with weights offloaded where they must be."""
        return not self.needs.too_large

    @property
    def line(self) -> str:
        """The most important in one line."""
        needs = self.needs
        worst = max(needs.phases, key=needs.peak)
        parts = [
            f"at most {_gb(needs.peak(worst))} of {_gb(needs.budget)} ({worst})",
            f"checkpointing {'on' if needs.checkpointing else 'off'}",
            *([f"{needs.update_batch} branch steps at once in the update"] if needs.update_batch > 1 else []),
            *([f"{needs.offloaded:.0%} of the model in system memory"] if needs.offloaded > 0 else []),
        ]
        return f"memory: {', '.join(parts)}" + (f"; {self.advice}" if self.advice else "")

    @property
    def advice(self) -> str:
        """What does not fit, and what would; empty where nothing is to be said."""
        needs = self.needs
        if needs.too_large:
            what = " and ".join(needs.too_large)
            if self.changes is None:
                return f"{what} will not fit, whatever the settings: use a smaller model or reward"
            return f"{what} will not fit: {', '.join(self.changes)} would"
        if self.changes:
            return f"to keep the model on the card: {', '.join(self.changes)}"
        return ""

    def text(self) -> str:
        """The whole report, as Markdown."""
        needs = self.needs
        parts = list(dict.fromkeys(part for phase in needs.phases.values() for part in phase))
        rows = [("GB", *needs.phases), ("---", *("---:",) * len(needs.phases))]
        for part in parts:
            cells = (needs.phases[phase].get(part) for phase in needs.phases)
            rows.append((part, *("" if cell is None else f"{cell / GB:.2f}" for cell in cells)))
        rows.append(("**together**", *(f"**{needs.peak(phase) / GB:.2f}**" for phase in needs.phases)))
        verdict = "This run fits." if self.fits else "This run does not fit."
        lines = [
            f"**{verdict}** There are {_gb(needs.budget)}.",
            "\n".join(f"| {' | '.join(row)} |" for row in rows),
            f"Checkpointing is {'on' if needs.checkpointing else 'off'}; {needs.offloaded:.0%} of the model's weights "
            f"stay in system memory; the update takes {needs.update_batch} of its {needs.states} branch steps at once.",
        ]
        if self.duration is not None:
            each = ", ".join(f"{phase} {in_time(seconds)}" for phase, seconds in self.duration.step.items())
            line = self.duration.line
            lines.append(f"**{line[0].upper()}{line[1:]}.** A step: {each}.")
        if self.advice:
            lines.append(f"{self.advice[0].upper()}{self.advice[1:]}.")
        return "\n\n".join([*lines, *self.remarks])


def _gb(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / 2**20:.0f} MB"
