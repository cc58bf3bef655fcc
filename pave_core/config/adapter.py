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

    rank: int = setting(
        64,
        "How much the LoRA can hold, and how large its file is: 8 to 64 are usual, and half of it halves the file and "
        "what the optimizer keeps. 64 is the paper's.",
        low=1,
        high=512,
        remedy="8 to 64 are usual",
    )
    alpha: float = setting(
        128.0,
        "How strongly the LoRA acts: its effect is scaled by alpha / rank. Twice the rank is the paper's; raising it "
        "acts like a higher learning_rate.",
        low=0.01,
        high=1024.0,
        step=0.01,
        remedy="the adapter is scaled by alpha / rank; the paper uses twice the rank",
    )
    targets: Targets = setting(
        "attention",
        "What the LoRA can change: attention alone is the smallest and lightest; with the MLP, or all linear layers, "
        "it changes more and takes more memory. paper: attention and MLP without the output layers of single-stream "
        "blocks, as in the authors' LoRA.",
        options=get_args(Targets),
    )
    init: Init = setting(
        "gaussian",
        "Hardly matters: how the LoRA's A matrices begin. B begins at 0, so that the untrained LoRA changes nothing.",
        options=get_args(Init),
        expert=True,
    )

    def __post_init__(self) -> None:
        check(self)
