"""What is compared: experiments on the bundled model, and the tables that they stand in.

An experiment is a TrainConfig, the defaults with other settings, and a budget of images to score. All have the same
search for the learning rate, on seeds of its own.

Standard library only, as far as the pack's settings are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from _host.package import ROOT

from .settings import Settings, replaced

IMAGES = 1280
"""Images that a run scores to learn from: its budget of samples."""
LEARNING_RATES = (3e-4, 6e-4, 1.2e-3, 2.4e-3)
SEARCH_SEEDS = (1000, 1001, 1002)
"""Of the search for the learning rate: no run that counts has them. All rates have the first, the best the others."""
FINALISTS = 2
"""So many rates are tried on all search seeds. Chosen is the one whose worst run is best: people have one run."""
EQUAL_RATE = 1.2e-3
"""Where methods differ little, their runs at one rate differ less by chance than runs at the best rate of each."""
REWARDS = ("clip", "preference")
"""What the runs learn from: a mix of equal weights, each normalised within its group (see learning.py)."""

COMMON: Settings = {
    **{"rollout.group_size": 8, "rollout.batch_size": 64, "run.checkpoint_every": 20},
    **{"lora.rank": 8, "lora.alpha": 16, "lora.targets": "attention + MLP"},
}


@dataclass(frozen=True)
class Experiment:
    """A setting of the method. name: unique, as tables call it."""

    name: str
    settings: Settings
    images: int = IMAGES

    def config(self, base: Any, *, seed: int, learning_rate: float, scale: float = 1.0) -> Any:
        """The TrainConfig of a run on top of `base`, the preset; of `scale` times the images, at least one step."""
        config = replaced(base, COMMON | self.settings)
        step = config.run.prompts_per_step * config.rollout.images
        steps = max(1, round(scale * self.images / step))
        own = {"run.iterations": steps, "run.seed": seed, "optim.learning_rate": learning_rate}
        return replaced(config, own)

    def digest(self, base: Any, scale: float = 1.0) -> str:
        """A few characters that change with the settings, the rewards and the bundled models.

        A result of others is so not taken for one of these. A setting that is new, at its default, changes nothing.
        """
        values = self.config(base, seed=0, learning_rate=LEARNING_RATES[0], scale=scale).to_dict()
        defaults = type(base)().to_dict()
        own = {
            f"{section}.{name}": value
            for section, fields in values.items()
            for name, value in fields.items()
            if value != defaults[section][name]
        }
        said = json.dumps([models_digest(), REWARDS, own], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:8]


@cache
def models_digest() -> str:
    """A digest of the bundled models' files."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "assets" / "tiny").glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Comparison:
    """A table: experiments by name, each compared with the first of them, pair by pair of equal seeds."""

    name: str  # for --only, and for the heading's anchor
    title: str
    experiments: tuple[str, ...]
    equal_rate: bool = False  # whether they are compared at EQUAL_RATE too


REGIMES: dict[str, Settings] = {
    "T3 K0": {"rollout.steps": 3, "rollout.branch_steps": (0,), "run.prompts_per_step": 4},
    "T4 K0": {"rollout.steps": 4, "rollout.branch_steps": (0,), "run.prompts_per_step": 4},
    "T4 K01": {"rollout.steps": 4, "rollout.branch_steps": (0, 1), "run.prompts_per_step": 2},
    "T8 K024": {"rollout.steps": 8, "rollout.branch_steps": (0, 2, 4), "run.prompts_per_step": 2},
}
RELEASED = "T16 K0246"
"""The released code's steps, of which cheaper tails save the most."""
RELEASED_STEPS: Settings = {"rollout.steps": 16, "rollout.branch_steps": (0, 2, 4, 6)}
SEGMENTS: dict[str, tuple[int, ...]] = {"GRPO": (), "{2}": (2,), "{2,3}": (2, 3), "{2,3,4}": (2, 3, 4)}
MAIN = "T4 K01"
"""The regime of most tables that are not about segments: few steps, the branch steps at high noise."""
DEFAULT = "T8 K024"
"""More steps, and branch steps down to the middle of the schedule: that of cheaper tails."""


def _segments() -> dict[str, Experiment]:
    return {
        name: Experiment(name, {**regime, "pave.segments": segments})
        for where, regime in REGIMES.items()
        for what, segments in SEGMENTS.items()
        for name in [f"{where} {what}"]
    }


def _others() -> dict[str, Experiment]:
    grpo, paved = (REGIMES[MAIN] | {"pave.segments": SEGMENTS[what]} for what in ("GRPO", "{2,3}"))
    made = {f"{MAIN} {{2,3}} {mode}": {**paved, "pave.variance": mode} for mode in ("matched", "span")}
    for kernel in ("cps", "dance"):
        made |= {f"{MAIN} GRPO {kernel}": {**grpo, "rollout.kernel": kernel}}
        made |= {f"{MAIN} {{2,3}} {kernel}": {**paved, "rollout.kernel": kernel}}
    for exploration in ("trajectories", "trajectories, one noise"):
        for what in ("GRPO", "{2,3}"):
            # Twice the prompts of branches, as a prompt has one group: as many images a step.
            settings = REGIMES[MAIN] | {"run.prompts_per_step": 4, "pave.segments": SEGMENTS[what]}
            made[f"{MAIN} {what} {exploration}"] = settings = {**settings, "rollout.exploration": exploration}
            if what != "GRPO":
                made[f"{MAIN} {what} {exploration}, residual image"] = {**settings, "pave.residual": "image"}
    for ratio in ("unclipped", "clip", "divergence mask"):
        for updates in (2, 4):  # in a first update nothing is limited: all three are the regime's {2,3} itself
            name = f"{MAIN} {{2,3}} {ratio}, {updates} updates"
            made[name] = {**paved, "pave.ratio": ratio, "pave.updates_per_rollout": updates}
    default = REGIMES[DEFAULT] | {"pave.segments": SEGMENTS["{2,3}"]}
    half = {"rollout.tail_solver": "multistep", "rollout.tail_steps": 4}
    contrast = {"rollout.contrast": 4}
    for what, settings in (("half tails", half), ("contrast", contrast), ("half tails, contrast", half | contrast)):
        made[f"{DEFAULT} {{2,3}} {what}"] = {**default, **settings}
    released = RELEASED_STEPS | {"run.prompts_per_step": 1}
    made[f"{RELEASED} {{2,3}}"] = released | {"pave.segments": SEGMENTS["{2,3}"]}
    made[f"{RELEASED} {{2,3}} fast"] = made[f"{RELEASED} {{2,3}}"] | half
    return {name: Experiment(name, settings) for name, settings in made.items()}


EXPERIMENTS: dict[str, Experiment] = _segments() | _others()


def _main(*parts: str) -> tuple[str, ...]:
    """Experiments of the main regime, by what their names go on with."""
    return tuple(f"{MAIN} {part}" for part in parts)


COMPARISONS = (
    *(
        Comparison(
            f"segments {where}", f"Segments at {where}", tuple(f"{where} {what}" for what in SEGMENTS), equal_rate=True
        )
        for where in REGIMES
    ),
    Comparison("variance", "Variance of the chains", _main("{2,3}", "{2,3} matched", "{2,3} span"), equal_rate=True),
    Comparison("kernel GRPO", "Kernels, without paving", _main("GRPO", "GRPO cps", "GRPO dance")),
    Comparison("kernel {2,3}", "Kernels, with paving", _main("{2,3}", "{2,3} cps", "{2,3} dance")),
    Comparison("kernel cps", "Paving with the cps kernel", _main("GRPO cps", "{2,3} cps"), equal_rate=True),
    Comparison("kernel dance", "Paving with the dance kernel", _main("GRPO dance", "{2,3} dance")),
    *(
        Comparison(
            f"exploration {what}",
            f"Branches and trajectories, {how} paving",
            tuple(f"{MAIN} {what}{kind}" for kind in ("", " trajectories", " trajectories, one noise")),
        )
        for what, how in (("GRPO", "without"), ("{2,3}", "with"))
    ),
    *(
        Comparison(
            f"exploration {kind}",
            f"Paving of {kind}",
            _main(f"GRPO {kind}", f"{{2,3}} {kind}", f"{{2,3}} {kind}, residual image"),
        )
        for kind in ("trajectories", "trajectories, one noise")
    ),
    Comparison(
        "ratio",
        "Clip and mask, with several updates a rollout",
        (*_main("{2,3}"), *(name for name in EXPERIMENTS if "updates" in name)),
    ),
    Comparison(
        "fast",
        "Cheaper tails and contrast",
        tuple(f"{DEFAULT} {{2,3}}{what}" for what in ("", " half tails", " contrast", " half tails, contrast")),
    ),
    Comparison(
        "fast preset",
        "The preset fast, beside the released code's steps",
        (f"{RELEASED} {{2,3}}", f"{RELEASED} {{2,3}} fast"),
    ),
)


def compared_at_equal_rate(experiment: Experiment) -> bool:
    """Whether an experiment has runs at EQUAL_RATE too."""
    return any(each.equal_rate and experiment.name in each.experiments for each in COMPARISONS)


def chosen(names: Sequence[str]) -> list[Experiment]:
    """The experiments of these comparisons, or with these names, each once; all if there are none.

    "segments" stands for all comparisons that begin so. ValueError for an unknown name.
    """
    if not names:
        return list(EXPERIMENTS.values())
    found: dict[str, Experiment] = {}
    for name in names:
        of = [each for each in COMPARISONS if each.name == name or each.name.startswith(f"{name} ")]
        members = [member for each in of for member in each.experiments] or [name]
        if missing := set(members) - EXPERIMENTS.keys():
            known = ", ".join(dict.fromkeys(each.name for each in COMPARISONS))
            raise ValueError(f"{missing.pop()}: neither a comparison ({known}) nor an experiment")
        found |= {member: EXPERIMENTS[member] for member in members}
    return list(found.values())
