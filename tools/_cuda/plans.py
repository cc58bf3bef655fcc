"""What the check measures: its parts, and the plans of each. GB are 2^30 bytes.

Standard library only, as the check starts under any Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from _host.package import load_core

load_core()
from pave_core.config.presets import MEMORY_PRESETS  # noqa: E402


@dataclass(frozen=True)
class Scale:
    """The size of the measured steps, each of one prompt."""

    pixels: int
    quickstart_steps: int
    steps: int = 4  # T
    branch_steps: tuple[int, ...] = (0, 2)  # K
    group_size: int = 6  # G
    groups: tuple[int, ...] = (2, 12, 48)  # the G's whose updates are compared
    most_rank: int = 512  # that its models can have


FULL = Scale(pixels=512, quickstart_steps=20)
MINIATURE = Scale(pixels=64, quickstart_steps=1, group_size=2, groups=(2, 4), most_rank=32)


@dataclass(frozen=True)
class Plan:
    """A few training steps with these settings. The seconds are those of the last step, the memory is the most of all.

    card_gb: stand-in for a smaller card: torch may take no more, and the host counts on no more.
    """

    name: str
    checkpointing: str = "on"
    rank: int = 16
    segments: tuple[int, ...] = (2, 3)  # S
    batch_size: int = 4
    decode_batch: int = 1
    offload: float = 0.0
    recompute_chains: bool = False
    card_gb: float | None = None
    train_steps: int = 2
    extras: frozenset[str] = field(default_factory=frozenset)  # of EXTRAS
    target_gb: float = 0.0  # what it must fit into
    needs_gb: float = 0.0  # cards with less skip it
    seconds: float = 20.0  # that it takes on a fast card: with less time left it is skipped


EXTRAS = {
    "bare": "the seconds of the network alone at the rollout's batch shapes",
    "gradient": "the adapter's gradient against that of the part's first plan",
    "groups": "the update at several G",
    "turns": "the text encoder is called again between the steps",
}


@dataclass(frozen=True)
class Part:
    """A model of random weights, and what is measured on it.

    model: one of models.SHAPES; weights: "bf16", "fp8", or "host" for the host's own choice.
    """

    name: str
    title: str
    model: str = ""
    weights: str = "host"
    cfg: float = 1.0
    plans: tuple[Plan, ...] = ()
    ram_gb: float = 2.0
    seconds: float = 20.0  # until its first plan begins, on a fast machine


FLUX_FP8, SD35 = 11.9, 4.9
"""GB of the weights."""


def preset(gb: int, weights_gb: float, **other: object) -> Plan:
    """The preset for a card of `gb` GB and weights of so many, on a stand-in for one."""
    chosen = MEMORY_PRESETS[f"{gb} GB"]
    memory = vars(chosen.memory(weights_gb))
    sizes = {"rank": chosen.rank, "batch_size": chosen.batch_size}
    settings: dict[str, object] = {"train_steps": 1, "seconds": 16.0, **sizes, **memory} | other
    return Plan(f"preset {gb} GB", card_gb=gb, target_gb=gb, needs_gb=gb, **settings)  # pyright: ignore[reportArgumentType]


COMPARED = frozenset({"bare", "gradient", "groups"})
GRADIENT = frozenset({"gradient"})

PARTS = (
    Part("quickstart", "The quickstart through the real server", seconds=45),
    Part("sample", "KSampler, then training, on the same loaded model", seconds=20),
    Part(
        "flux-fp8",
        "FLUX.1-dev shape, fp8",
        model="flux",
        weights="fp8",
        ram_gb=24,
        seconds=30,
        plans=(
            Plan("checkpointed", extras=COMPARED, target_gb=16, needs_gb=16, seconds=32),
            Plan("plain", checkpointing="off", extras=GRADIENT, needs_gb=40, seconds=20),
            preset(16, FLUX_FP8, seconds=20.0),
            Plan("half offloaded", offload=0.5, train_steps=1, extras=GRADIENT, target_gb=12, needs_gb=12, seconds=40),
            preset(12, FLUX_FP8, seconds=30.0),
            preset(24, FLUX_FP8),
        ),
    ),
    Part(
        "sd35",
        "SD3.5-medium shape, the host's dtype, cfg 4.5",
        model="sd35",
        cfg=4.5,
        ram_gb=12,
        seconds=25,
        plans=(
            Plan("checkpointed", extras=COMPARED, target_gb=8, needs_gb=8, seconds=12),
            Plan("plain", checkpointing="off", extras=GRADIENT, needs_gb=24, seconds=8),
            preset(8, SD35, extras=frozenset({"turns"}), train_steps=2, seconds=10.0),
            preset(12, SD35, seconds=6.0),
        ),
    ),
    Part(
        "flux-bf16",
        "FLUX.1-dev shape, bf16",
        model="flux",
        weights="bf16",
        ram_gb=36,
        seconds=40,
        plans=(
            Plan("checkpointed", extras=COMPARED - {"groups"}, target_gb=28, needs_gb=28, seconds=30),
            Plan("plain", checkpointing="off", extras=GRADIENT, needs_gb=56, seconds=25),
        ),
    ),
)


def parts_named(names: Sequence[str]) -> list[Part]:
    """The parts with these names, in the order of PARTS; all if there are none. ValueError for an unknown name."""
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: choose among {', '.join(part.name for part in PARTS)}")
    return [part for part in PARTS if not names or part.name in names]
