"""The settings of the adapter that is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .fields import check, setting

Targets = Literal["attention", "attention + MLP", "paper", "all linear"]
Init = Literal["gaussian", "kaiming"]


@dataclass(frozen=True)
class LoraConfig:
    """A low-rank adapter: y = W x + (alpha / rank) B A x."""

    rank: int = setting(64, "The LoRA's rank: how much it can hold.", low=1, high=512, remedy="8 to 64 are usual")
    alpha: float = setting(
        128.0,
        "The LoRA is scaled by alpha / rank. The paper uses twice the rank.",
        low=0.01,
        high=1024.0,
        step=0.01,
        remedy="the adapter is scaled by alpha / rank; the paper uses twice the rank",
    )
    targets: Targets = setting(
        "attention",
        "The layers that get an adapter. paper: those of the authors' LoRA, attention + MLP without the output layers "
        "of single-stream blocks.",
        options=get_args(Targets),
    )
    init: Init = setting(
        "gaussian",
        "How the LoRA's A matrices are initialised. B starts at 0: the untrained LoRA changes nothing.",
        options=get_args(Init),
        expert=True,
    )

    def __post_init__(self) -> None:
        check(self)
