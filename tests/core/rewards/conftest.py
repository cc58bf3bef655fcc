"""Pictures, prompts, and checkpoints of true layout with random weights."""

from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

PROMPTS = ("a red fox in the snow", "An old sailing ship, oil on canvas!", "two cats; one asleep")


def picture(seed: int, height: int, width: int) -> torch.Tensor:
    """(height, width, 3) in [0, 1], in steps of 1 / 255: coarse patches of colour under fine noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 4, generator=generator)
    patches = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].movedim(0, -1)
    noisy = (patches + 0.15 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)
    return (noisy * 255).round() / 255


def pil(images: torch.Tensor) -> list[Image.Image]:
    """The same pictures for the published pipelines."""
    return [Image.fromarray((image * 255).round().numpy().astype(np.uint8)) for image in images]


class RandomWeights:
    """Random numbers for every tensor of a layout, biases and norms too, so that a tensor in the wrong place shows.

    One pool of noise for all: drawing a thousand million numbers takes longer than the tests.
    """

    def __init__(self, seed: int, gain: float = 1.0):
        self.noise = torch.randn(16_777_259, generator=torch.Generator().manual_seed(seed))
        self.gain = gain
        self.start = 0

    def draw(self, count: int) -> torch.Tensor:
        self.start = (self.start + 7_919_111) % len(self.noise)
        times = -(-(count + self.start) // len(self.noise))
        return (
            self.noise.repeat(times)[self.start : self.start + count]
            if times > 1
            else self.noise[self.start : self.start + count].clone()
        )

    def tensor(self, name: str, shape: Iterable[int]) -> torch.Tensor:
        shape = tuple(shape)
        values = self.draw(int(np.prod(shape))).view(shape)
        if name.endswith("logit_scale"):
            return torch.full(shape, 4.6)
        if len(shape) < 2:
            return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
        fan_in = int(np.prod(shape[1:])) if "embed" not in name.lower() and name.split(".")[-1] != "proj" else shape[-1]
        return self.gain * values / fan_in**0.5

    def fill(self, layout: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
        """layout: tensors whose names and shapes count, such as the state dict of a module on the meta device."""
        return {name: self.tensor(name, value.shape).to(dtype) for name, value in layout.items()}


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """.prompts, .picture(seed, height, width), .pil(images), .RandomWeights(seed, gain)"""
    return SimpleNamespace(prompts=PROMPTS, picture=picture, pil=pil, RandomWeights=RandomWeights)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)  # two threads that wait for each other crawl when another program has a core
