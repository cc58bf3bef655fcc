"""What a tiny architecture is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Generator

WIDTH = 32
"""The width of the tokens that a stand-in text encoder gives, unless the network has a fixed one."""


@dataclass(frozen=True)
class Text:
    """What the conditioning of a prompt holds.

    tokens (1, length, width); pooled (1, pooled), if a number is given; extra: a function of a generator that gives
    what the network asks for besides (masks, a second encoder's tokens, token numbers).
    """

    width: int = WIDTH
    length: int = 6
    pooled: int | None = None
    extra: Callable[[Generator], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Architecture:
    """A model class of the host at a tiny size, and the text encoder and VAE that go with it.

    config: the class in comfy.supported_models. network: the settings of its network. channels: of the latent format.
    factor: pixels a latent element stands for, each way. frames: images a latent frame stands for; None if it is not a
    video model. size: the image's, in pixels. family: architectures that share their blocks; one of each is trained in
    fp8. overwrites: its blocks write into what autograd has saved, by methods such as add_(). only_with: (file of the
    host, text) that must be there: a variant of a class that older hosts have, too.
    """

    config: str
    network: Mapping[str, Any]
    channels: int = 16
    text: Text = field(default_factory=Text)
    factor: int = 8
    frames: int | None = None
    size: int = 64
    family: str = ""
    overwrites: bool = False
    only_with: tuple[str, str] | None = None
