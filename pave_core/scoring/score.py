"""Calls of a reward, with checks of what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor

from ..batches import UNLIMITED, Batches
from ..errors import NOT_FINITE, ConfigError, TrainingError, quoted
from ..types import Reward

RANGE_SLACK = 1e-3
"""How far pixel values may lie outside [0, 1], by a decoder's rounding."""


def batches_of(reward: Reward) -> Batches:
    """The micro-batches of a reward: all images in one call, until memory runs out."""
    remedy = "lower width and height, choose a smaller reward or a precision of bf16, or run it on the CPU"
    return Batches(UNLIMITED, what=f"images for reward {reward.name}", remedy=remedy)


def score(
    reward: Reward,
    images: Tensor,
    prompts: Sequence[str],
    batches: Batches | None = None,
    *,
    asked: Callable[[Tensor, Sequence[str]], Tensor] | None = None,
) -> Tensor:
    """The scores of N images: (N,) fp32 on the CPU, finite; NaN where a reward with `may_abstain` gave none.

    batches: what earlier calls have learnt; None: nothing. asked: scores the images in place of the reward, all of them
    in one call. ConfigError if the images or prompts are wrong (see
    check_images), TrainingError if the scores are; both name the reward.
    """
    check_images(reward.name, images, prompts)

    def called(images: Tensor, prompts: Sequence[str]) -> Tensor:
        scores = torch.as_tensor((asked or reward)(images, prompts)).detach().float().cpu()
        if scores.shape != (len(images),):
            raise TrainingError(
                f"reward {reward.name}: returned shape {tuple(scores.shape)} for {len(images)} images: return one "
                "number per image"
            )
        return scores

    if asked is not None:
        scores = called(images, prompts)
    else:
        scores = (batches or batches_of(reward)).map(called, images, prompts)
    allowed = scores.isnan() if getattr(reward, "may_abstain", False) else torch.zeros_like(scores, dtype=torch.bool)
    bad = (~(scores.isfinite() | allowed)).nonzero().flatten().tolist()
    if bad:
        value, prompt = scores[bad[0]].item(), prompts[bad[0]]
        raise TrainingError(
            f"reward {reward.name}: returned {value} for {len(bad)} of {len(scores)} images (first prompt: "
            f"{quoted(prompt)}): it must be finite; a network needs a precision of fp32 or bf16"
        )
    return scores


def check_images(reward: str, images: Tensor, prompts: Sequence[str]) -> None:
    """ConfigError unless `images` are (N, H, W, 3) in [0, 1], N >= 1, and there are N prompts. reward: its name."""
    where = f"images: reward {reward} was given"
    if images.ndim != 4 or not images.numel():
        raise ConfigError(
            f"{where} a tensor of shape {tuple(images.shape)}: images are (N, height, width, 3), at least one"
        )
    if images.shape[-1] != 3:
        remedy = (
            "take the transparency off, such as with Split Image with Alpha"
            if images.shape[-1] == 4
            else "rewards score RGB images"
        )
        raise ConfigError(f"{where} images with {images.shape[-1]} channels instead of 3: {remedy}")
    if len(prompts) != len(images):
        raise ConfigError(
            f"prompts: reward {reward} was given {len(prompts)} for {len(images)} images: give one per image"
        )
    low, high = (value.item() for value in images.aminmax())
    if not (isfinite(low) and isfinite(high)):
        raise ConfigError(f"{where} values that are not finite: {NOT_FINITE}")
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        remedy = "divide 8-bit values by 255" if high > 2 and low >= 0 else "clamp them to that"
        raise ConfigError(f"{where} values from {low:.4g} to {high:.4g}: images hold values from 0 to 1; {remedy}")


def describe(reward: Reward) -> dict[str, object]:
    """A reward as JSON values: its name, and its settings if it has a describe() of its own."""
    own = getattr(reward, "describe", None)
    return {"name": reward.name, **(own() if own else {})}
