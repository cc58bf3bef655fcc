"""How a run fits into the memory of a device. None of it changes what is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .fields import check, setting

Checkpointing = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class MemoryConfig:
    """What is computed again instead of kept, how many images are worked on at once, and what stays off the device."""

    checkpointing: Checkpointing = setting(
        "auto",
        "Keep only the input of each block of the network, and compute the block again for its gradient: a fraction of "
        "the memory for about 1.5 times the time of the update. auto: where the preflight says that it must be.",
        options=get_args(Checkpointing),
    )
    recompute_chains: bool = setting(
        False,
        "Keep one network evaluation of the update at a time, and compute the others again: for the least memory.",
    )
    decode_batch: int = setting(
        4,
        "Images that the VAE decodes at once. Halved by itself where memory runs out.",
        low=1,
        high=256,
        remedy="use 1 for the least memory",
    )
    offload: float = setting(
        0.0,
        "The share of the model that stays in system memory and is copied when it is used: slower, for small cards. 0: "
        "as the host decides.",
        low=0.0,
        high=1.0,
        step=0.05,
        remedy="0 leaves it to the host",
    )

    def __post_init__(self) -> None:
        check(self)
