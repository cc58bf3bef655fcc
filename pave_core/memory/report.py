"""The prediction in words: a line for the log, a page for the node."""

from __future__ import annotations

from dataclasses import dataclass

from .needs import Needs

GB = 2**30


@dataclass(frozen=True)
class Preflight:
    """What a run needs, and what would make it fit.

    changes: the settings with which everything fits without offloading more than was asked for; None: there are none.
    remarks: what the numbers leave out.
    """

    needs: Needs
    changes: list[str] | None
    remarks: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the run can be made, with weights offloaded where they must be."""
        return not self.needs.too_large

    @property
    def line(self) -> str:
        """The most important in one line."""
        needs = self.needs
        worst = max(needs.phases, key=needs.peak)
        seconds = sum(needs.seconds.values())
        parts = [
            f"at most {_gb(needs.peak(worst))} of {_gb(needs.budget)} ({worst})",
            f"checkpointing {'on' if needs.checkpointing else 'off'}",
            *([f"{needs.update_batch} branch steps at once in the update"] if needs.update_batch > 1 else []),
            *([f"{needs.offloaded:.0%} of the model in system memory"] if needs.offloaded > 0 else []),
            *([f"about {_time(seconds)} a step without {self._untimed}"] if needs.seconds else []),
        ]
        return f"memory: {', '.join(parts)}" + (f"; {self.advice}" if self.advice else "")

    @property
    def _untimed(self) -> str:
        """The phases whose seconds are not known."""
        return "the reward" if "decode" in self.needs.seconds else "decoding and the reward"

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
        if needs.seconds:
            each = ", ".join(f"{phase} {_time(seconds)}" for phase, seconds in needs.seconds.items())
            whole = _time(sum(needs.seconds.values()))
            lines.append(f"A step takes about {whole} without {self._untimed}: {each}.")
        if self.advice:
            lines.append(f"{self.advice[0].upper()}{self.advice[1:]}.")
        return "\n\n".join([*lines, *self.remarks])


def _gb(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / 2**20:.0f} MB"


def _time(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
