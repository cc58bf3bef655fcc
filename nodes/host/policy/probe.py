"""One call of the network before anything that takes long: can it take the size, and are its numbers finite?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ....pave_core.errors import NOT_FINITE, ConfigError, PaveError
from .settings import Picture

_MULTIPLES = (2, 4, 8, 16, 32, 64)
"""What the height and width of a latent may have to be multiples of."""
_OF_OTHERS = (torch.cuda.OutOfMemoryError, InterruptProcessingException, PaveError)
"""What says nothing about the size."""


@torch.no_grad()
def probe(
    velocity: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...], *, picture: Picture, name: str
) -> None:
    """Ask `velocity` (latent shape (C, ..., H, W) -> (1, *S)) once for `shape`, which picture's size makes.

    ConfigError if it fails, with the next sizes that work if there are such, or if the values are not finite. Want of
    memory is not caught. name: the model's.
    """
    try:
        v = velocity(shape)
    except _OF_OTHERS:
        raise
    except Exception as error:  # whatever a network raises for a size that it cannot take
        sizes = _working(velocity, shape, picture)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if sizes:
            raise ConfigError(
                f"width, height: the network of {name} cannot take {picture.width}x{picture.height} ({reason}): use "
                f"{' or '.join(sizes)}"
            ) from error
        raise ConfigError(
            f"model: a first call of the network of {name} failed, at any size ({reason}): check that CLIP and VAE are "
            "this model's, and take out patches one by one"
        ) from error
    if not v.isfinite().all():
        share = 1 - v.isfinite().float().mean().item()
        raise ConfigError(f"model: {share:.0%} of the first velocity of {name} is not finite: {NOT_FINITE}")


def _working(velocity: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...], picture: Picture) -> list[str]:
    """The sizes in pixels, as text, next below and above whose latents the network takes."""
    for multiple in _MULTIPLES:
        found = [size for size in _rounded(shape, multiple) if takes(velocity, size)]
        if found:
            return [_pixels(size, shape, picture) for size in found]
    return []


def _rounded(shape: tuple[int, ...], multiple: int) -> Iterator[tuple[int, ...]]:
    """`shape` with its height and width rounded down and up to multiples, where that is another shape."""
    *others, height, width = shape
    down = (*others, height // multiple * multiple, width // multiple * multiple)
    up = (*others, -(-height // multiple) * multiple, -(-width // multiple) * multiple)
    yield from (size for size in (down, up) if size != shape and min(size[-2:]) > 0)


def takes(velocity: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> bool:
    """Whether the network takes latents of a shape."""
    try:
        velocity(shape)
    except InterruptProcessingException:
        raise
    except Exception:
        return False
    return True


def _pixels(size: tuple[int, ...], shape: tuple[int, ...], picture: Picture) -> str:
    """The latent `size` in pixels, where `shape` is picture.width x picture.height."""
    return f"{size[-1] * picture.width // shape[-1]}x{size[-2] * picture.height // shape[-2]}"
